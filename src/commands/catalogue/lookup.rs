//! `redis-script-exporter catalogue lookup`: looks up the names of scripts by SHA1, without a server.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::ExitCode;

use crate::cli::{Cli, LookupArgs};
use crate::config::load_scripts;
use crate::parse::{Mention, mentioned_scripts};
use crate::script::{Bundled, Catalogue, Identity, Origin, Owner, Sha1Digits};

use super::CatalogueError;

/// Maximum size of the text on standard input, in bytes.
const MAX_INPUT: u64 = 64 << 20;

/// Minimum number of digits of an abbreviated SHA1.
const MIN_DIGITS: usize = 8;

/// Exit code if the input contains no SHA1.
const EXIT_NOTHING: u8 = 2;

/// Catalogues to search.
struct Names {
    files: Catalogue,
    bundled: Option<Bundled>,
}

/// Looks up the scripts in `args`, or those that `input` mentions, and prints their names to `out`.
///
/// # Errors
/// An argument is not a SHA1, a directory cannot be read, or input or output fails.
pub(super) fn run(
    cli: &Cli,
    args: &LookupArgs,
    input: impl Read,
    out: &mut impl Write,
) -> Result<ExitCode, CatalogueError> {
    let names = Names {
        files: load_scripts(&cli.script_dir, false)?,
        bundled: if cli.script_bundled { Bundled::new() } else { None },
    };
    let is_text = args.scripts.is_empty() || args.scripts.iter().any(|word| word == "-");
    let mut mentions = Vec::new();
    if is_text {
        let mut text = Vec::new();
        input.take(MAX_INPUT).read_to_end(&mut text)?;
        mentions = mentioned_scripts(&text);
    }
    let words = args.scripts.iter().filter(|word| *word != "-");
    mentions.extend(words.map(|word| mention(word)).collect::<Result<Vec<_>, _>>()?);
    let (mut known, mut unknown) = (0_usize, 0_usize);
    for mention in &mentions {
        let lines = names.lines(mention);
        // Digits and arguments in text may be anything. Those given on the command line are scripts.
        let is_certain = matches!(mention, Mention::Script(_)) || !is_text;
        if lines.is_empty() && !is_certain {
            continue;
        }
        writeln!(out, "{}", shown(mention))?;
        for line in &lines {
            writeln!(out, "  {line}")?;
        }
        if lines.is_empty() {
            writeln!(out, "  unknown")?;
            unknown += 1;
        } else {
            known += 1;
        }
    }
    if known + unknown == 0 {
        writeln!(out, "the input contains no SHA1 of a script")?;
        return Ok(ExitCode::from(EXIT_NOTHING));
    }
    if unknown > 0 {
        let (scripts, libraries) = names.bundled.map_or((0, 0), |bundled| bundled.size());
        writeln!(
            out,
            "\n{unknown} unknown: in no file of --script.dir and not among the {scripts} bundled scripts of {libraries} libraries. It may be \
             a script of your own, of another library or version, or one that a library composes at run time."
        )?;
    }
    Ok(ExitCode::from(u8::from(unknown > 0)))
}

/// Parses an argument of the command line: a SHA1, its first digits, or the label of a truncated body.
fn mention(word: &str) -> Result<Mention, CatalogueError> {
    if let Some(script) = Identity::from_sha1(word.as_bytes(), Origin::Server) {
        return Ok(Mention::Script(script));
    }
    let digits = word.to_ascii_lowercase();
    let plain = digits.strip_prefix('~').unwrap_or(&digits);
    let is_label = plain.len() == 12 || plain.len() == digits.len();
    let is_hexadecimal = plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_label && is_hexadecimal && (MIN_DIGITS..40).contains(&plain.len()) {
        return Ok(Mention::Digits(digits));
    }
    Err(CatalogueError::NoScript(word.to_owned()))
}

fn shown(mention: &Mention) -> String {
    match mention {
        Mention::Script(script) | Mention::Argument(script) => {
            script.sha1.map_or_else(|| script.label.to_string(), String::from)
        }
        Mention::Digits(digits) => digits.clone(),
    }
}

impl Names {
    /// Returns a line for each library and file that contains the script.
    fn lines(&self, mention: &Mention) -> Vec<String> {
        match mention {
            Mention::Script(script) | Mention::Argument(script) => self.of_script(script, false),
            Mention::Digits(digits) if digits.starts_with('~') => {
                self.of_script(&Identity::from_cut_label(digits), false)
            }
            Mention::Digits(digits) => {
                let bundled = self.bundled.iter().flat_map(|bundled| bundled.with_prefix(digits));
                let found: BTreeSet<Sha1Digits> = bundled.chain(self.files.with_prefix(digits)).collect();
                let scripts = found
                    .iter()
                    .filter_map(|sha1| Identity::from_sha1(sha1.as_str().as_bytes(), Origin::Server));
                scripts.flat_map(|script| self.of_script(&script, true)).collect()
            }
        }
    }

    fn of_script(&self, script: &Identity, with_sha1: bool) -> Vec<String> {
        let named = self.files.named(script);
        let is_of_file = matches!(named.origin, Origin::Catalogue | Origin::Template);
        let in_files = is_of_file.then(|| format!("{} (--script.dir)", named.name));
        let sha1 =
            script.sha1.or_else(|| self.bundled.and_then(|all| all.sha1_of_cut(script.label.as_str())));
        let owners = self.bundled.iter().zip(sha1).flat_map(|(bundled, sha1)| bundled.owners(sha1));
        let lines = in_files.into_iter().chain(owners.map(|owner| of_owner(&owner)));
        let sha1 = sha1.filter(|_| with_sha1 || script.sha1.is_none());
        lines.map(|line| sha1.map_or_else(|| line.clone(), |sha1| format!("{line}, SHA1 {sha1}"))).collect()
    }
}

fn of_owner(owner: &Owner) -> String {
    format!("{} {}: {}", owner.library, owner.versions(), owner.script)
}
