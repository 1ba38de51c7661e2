//! Passwords. A bcrypt hash takes tens of milliseconds of a core to verify, so what was found out is kept, and only a few
//! are verified at a time, off the threads that serve: whoever is known is never behind a flood of wrong passwords.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use parking_lot::{Mutex, MutexGuard};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use tokio::sync::Semaphore;

/// Most passwords of each kind that are remembered.
const MAX_REMEMBERED: usize = 256;

/// Most requests from one address that may wait for their password to be verified: more than a browser sends at once.
const MAX_WAITING: usize = 16;

/// Most passwords that are verified at a time, on any machine.
const MAX_VERIFIED: usize = 4;

/// What a client is told that has to say who it is.
const CHALLENGE: &str = "Basic realm=\"redis-script-exporter\", charset=\"UTF-8\"";

/// The users and the hashes of their passwords.
pub(crate) struct Users {
    hashes: BTreeMap<String, SecretString>,
    /// What the password of an unknown user is verified with, so that it takes as long as that of a known one. Nothing
    /// has this hash.
    nobody: SecretString,
}

impl Users {
    /// Users with valid hashes.
    pub(crate) fn new(hashes: BTreeMap<String, SecretString>) -> Self {
        let costs = hashes.values().filter_map(|hash| hash.expose_secret().parse::<HashParts>().ok());
        let cost = costs.map(|parts| parts.get_cost()).max().unwrap_or(bcrypt::DEFAULT_COST);
        Self { hashes, nobody: format!("$2b${cost:02}${}", ".".repeat(53)).into() }
    }
}

/// What a request says about who sent it.
struct Claim {
    user: Vec<u8>,
    password: SecretSlice<u8>,
}

impl Claim {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let mut user = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon).into_iter().skip(1).collect::<Vec<u8>>();
        Some(Self { user, password: password.into() })
    }
}

/// What stands for user, password and hash in memory.
type Key = [u8; 32];

/// Verifies passwords, and remembers what came of it.
pub(crate) struct Gate {
    /// Made anew by each process, so that what is remembered is of no use elsewhere, and that nobody can choose what is
    /// looked for: comparing need not take constant time.
    secret: hmac::Key,
    known: Mutex<Known>,
    /// One for each verification at a time.
    turns: Arc<Semaphore>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Default)]
struct Known {
    right: Recent,
    wrong: Recent,
}

/// The latest keys.
#[derive(Default)]
struct Recent {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
}

impl Recent {
    fn add(&mut self, key: Key) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that knows nobody yet.
    ///
    /// # Errors
    /// A system without random numbers.
    pub(crate) fn new() -> Result<Self, ring::error::Unspecified> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            secret,
            known: Mutex::default(),
            turns: Arc::new(Semaphore::new((cores / 2).clamp(1, MAX_VERIFIED))),
            waiting: Mutex::default(),
        })
    }

    /// Lets a request in that says who sent it, and proves it.
    ///
    /// # Errors
    /// The response for any other.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        users: &Users,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<(), Response> {
        let Some(claim) = Claim::of(headers) else { return Err(unauthorized()) };
        let hash = std::str::from_utf8(&claim.user).ok().and_then(|user| users.hashes.get(user));
        let (hash, exists) = hash.map_or((&users.nobody, false), |hash| (hash, true));
        let key = self.key(&claim, hash);
        let known = match self.remembered(&key) {
            Some(right) => right,
            None => self.verify(key, claim, hash.clone(), exists, peer).await?,
        };
        if known { Ok(()) } else { Err(unauthorized()) }
    }

    /// Verifies a password when its turn comes.
    async fn verify(
        self: &Arc<Self>,
        key: Key,
        claim: Claim,
        hash: SecretString,
        exists: bool,
        peer: IpAddr,
    ) -> Result<bool, Response> {
        let _waiting = Waiting::begin(self, peer).ok_or_else(too_many)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| unavailable())?;
        // Another request with the same password may have had its turn.
        if let Some(right) = self.remembered(&key) {
            return Ok(right);
        }
        let gate = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || {
            // Both: that of an unknown user takes its time too.
            let matches = bcrypt::verify(claim.password.expose_secret(), hash.expose_secret());
            let right = matches.unwrap_or(false) && exists;
            gate.remember(key, right);
            // Held to here, also if the client has not waited.
            drop(turn);
            right
        });
        verified.await.map_err(|_| unavailable())
    }

    fn key(&self, claim: &Claim, hash: &SecretString) -> Key {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [&claim.user, claim.password.expose_secret(), hash.expose_secret().as_bytes()] {
            // With its length, so that no other parts make the same text.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut key = Key::default();
        for (to, from) in key.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        key
    }

    fn remembered(&self, key: &Key) -> Option<bool> {
        let known = self.known();
        known.right.keys.contains(key).then_some(true).or(known.wrong.keys.contains(key).then_some(false))
    }

    /// Wrong ones are kept apart: a flood of them must not make the right ones forgotten.
    fn remember(&self, key: Key, right: bool) {
        let mut known = self.known();
        if right { known.right.add(key) } else { known.wrong.add(key) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.waiting.lock()
    }
}

/// A request that waits for its password to be verified.
struct Waiting<'a> {
    gate: &'a Gate,
    peer: IpAddr,
}

impl<'a> Waiting<'a> {
    /// None where too many from the same address wait already: they would only keep those from others waiting.
    fn begin(gate: &'a Gate, peer: IpAddr) -> Option<Self> {
        let peer = network(peer);
        let mut waiting = gate.waiting();
        let count = waiting.entry(peer).or_default();
        if *count >= MAX_WAITING {
            return None;
        }
        *count += 1;
        Some(Self { gate, peer })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.gate.waiting();
        if let Some(count) = waiting.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(&self.peer);
            }
        }
    }
}

/// One client's address: an IPv6 network is a single client's, who may have as many addresses in it as he likes.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() & !u128::from(u64::MAX)).to_be_bytes()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn unauthorized() -> Response {
    let problem = "a user and a password are needed: those of --web.config.file\n";
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, CHALLENGE)], problem).into_response()
}

fn too_many() -> Response {
    let problem = "too many passwords from this address wait to be verified; try again in a second\n";
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], problem).into_response()
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the exporter is about to stop\n").into_response()
}
