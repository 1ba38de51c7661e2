//! Structure of the file for deserialization.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A string value and its location.
pub(super) type Scalar = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    #[serde(default)]
    pub(super) targets: Vec<Spanned<Target>>,
    #[serde(default)]
    pub(super) modules: BTreeMap<String, Spanned<ProbeModule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub(super) name: Option<Scalar>,
    pub(super) addr: Option<Scalar>,
    pub(super) discover: Option<Scalar>,
    pub(super) addrs: Option<Spanned<Vec<Scalar>>>,
    pub(super) masters: Option<Spanned<Vec<Scalar>>>,
    pub(super) sentinel: Option<Spanned<SentinelLogin>>,
    pub(super) allow: Option<Spanned<Vec<Scalar>>>,
    pub(super) user: Option<Scalar>,
    pub(super) password: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
    pub(super) password_env: Option<Scalar>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) slow: Option<Spanned<Slow>>,
    pub(super) poll: Option<Poll>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) script: Option<Script>,
    pub(super) renamed_commands: Option<BTreeMap<String, Scalar>>,
    pub(super) guard: Option<Spanned<Guard>>,
    pub(super) log_file: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeModule {
    #[serde(default)]
    pub(super) allow: Vec<Scalar>,
    pub(super) user: Option<Scalar>,
    pub(super) password: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
    pub(super) password_env: Option<Scalar>,
    pub(super) tls: Option<Spanned<Tls>>,
    pub(super) slow: Option<Spanned<Slow>>,
    pub(super) poll: Option<Poll>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) script: Option<Script>,
    pub(super) renamed_commands: Option<BTreeMap<String, Scalar>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<Scalar>,
    pub(super) cert_file: Option<Scalar>,
    pub(super) key_file: Option<Scalar>,
    pub(super) server_name: Option<Scalar>,
    #[serde(default)]
    pub(super) insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SentinelLogin {
    pub(super) user: Option<Scalar>,
    pub(super) password: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
    pub(super) password_env: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slow {
    pub(super) warning: Option<Scalar>,
    pub(super) critical: Option<Scalar>,
    pub(super) buckets: Option<Spanned<Vec<f64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub(super) interval: Option<Scalar>,
    pub(super) info_interval: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Heartbeat {
    pub(super) interval: Option<Scalar>,
    pub(super) blocked_after: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) max_series: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guard {
    pub(super) kill_after: Option<Scalar>,
    pub(super) mode: Option<Scalar>,
    pub(super) scripts: Option<GuardScripts>,
    pub(super) unknown: Option<Scalar>,
    pub(super) functions: Option<bool>,
    pub(super) max_kills: Option<Spanned<usize>>,
    pub(super) per: Option<Scalar>,
    pub(super) replicas: Option<Scalar>,
    pub(super) user: Option<Scalar>,
    pub(super) password_file: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardScripts {
    pub(super) only: Option<Spanned<Vec<Scalar>>>,
    pub(super) never: Option<Spanned<Vec<Scalar>>>,
}

/// Keys for user and password.
pub(super) struct Login<'a> {
    pub(super) user: Option<&'a Scalar>,
    pub(super) password: Option<&'a Scalar>,
    pub(super) password_file: Option<&'a Scalar>,
    pub(super) password_env: Option<&'a Scalar>,
}

/// Keys that override flags.
pub(super) struct Overrides<'a> {
    pub(super) slow: Option<&'a Spanned<Slow>>,
    pub(super) poll: Option<&'a Poll>,
    pub(super) heartbeat: Option<&'a Heartbeat>,
    pub(super) script: Option<&'a Script>,
    pub(super) renamed_commands: Option<&'a BTreeMap<String, Scalar>>,
}

/// Implements the conversion of an entry to a struct of references to some of its keys.
macro_rules! view {
    ($entry:ident as $view:ident: $($key:ident),+) => {
        impl<'a> From<&'a $entry> for $view<'a> {
            fn from(entry: &'a $entry) -> Self {
                Self { $($key: entry.$key.as_ref()),+ }
            }
        }
    };
}

view!(Target as Login: user, password, password_file, password_env);
view!(ProbeModule as Login: user, password, password_file, password_env);
view!(SentinelLogin as Login: user, password, password_file, password_env);
view!(Target as Overrides: slow, poll, heartbeat, script, renamed_commands);
view!(ProbeModule as Overrides: slow, poll, heartbeat, script, renamed_commands);
