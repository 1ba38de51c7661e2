//! Basic auth. Verifying a bcrypt hash takes tens of milliseconds of CPU time, so results are cached, and only a few
//! passwords are verified at a time, on blocking threads. A flood of wrong passwords does not delay requests whose
//! passwords are cached.

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

/// Maximum number of cached results, separately for accepted and rejected passwords.
const MAX_CACHED: usize = 256;

/// Maximum number of requests from one network that can wait for verification. Browsers send fewer concurrent requests.
const MAX_PENDING: usize = 16;

/// Maximum number of concurrent verifications, regardless of the number of cores.
const MAX_CONCURRENT: usize = 4;

/// Value of `WWW-Authenticate`.
const CHALLENGE: &str = "Basic realm=\"redis-script-exporter\", charset=\"UTF-8\"";

/// Users and the hashes of their passwords.
pub(crate) struct PasswordHashes {
    by_user: BTreeMap<String, SecretString>,
    /// Hash that no password matches. The password of an unknown user is verified against it so that the response takes as
    /// long as for a known user.
    dummy: SecretString,
    /// Highest cost of any hash.
    cost: u32,
}

impl PasswordHashes {
    /// Creates the table of users; the values must be valid bcrypt hashes.
    pub(crate) fn new(by_user: BTreeMap<String, SecretString>) -> Self {
        let costs = by_user.values().filter_map(|hash| hash.expose_secret().parse::<HashParts>().ok());
        let cost = costs.map(|parts| parts.get_cost()).max().unwrap_or(bcrypt::DEFAULT_COST);
        Self { by_user, dummy: format!("$2b${cost:02}${}", ".".repeat(53)).into(), cost }
    }

    /// Returns the highest cost of any hash.
    pub(crate) fn cost(&self) -> u32 {
        self.cost
    }
}

/// Credentials of a request.
struct Credentials {
    user: Vec<u8>,
    password: SecretSlice<u8>,
}

impl Credentials {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
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

/// Keyed digest of user, password and hash.
type Digest = [u8; 32];

/// Verifies passwords and caches the results.
pub(crate) struct PasswordVerifier {
    /// Generated at startup, so cached digests are useless in any other process. Clients cannot choose the digest that is
    /// looked up, so the comparison need not take constant time.
    secret: hmac::Key,
    cache: Mutex<Cache>,
    /// Limit on concurrent verifications.
    permits: Arc<Semaphore>,
    /// Number of pending requests by network.
    pending: Mutex<HashMap<IpAddr, usize>>,
}

/// Cached results, in separate sets so that a flood of wrong passwords does not evict accepted ones.
#[derive(Default)]
struct Cache {
    accepted: RecentDigests,
    rejected: RecentDigests,
}

/// The most recent digests, at most [`MAX_CACHED`].
#[derive(Default)]
struct RecentDigests {
    digests: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl RecentDigests {
    fn add(&mut self, digest: Digest) {
        if self.digests.insert(digest) {
            self.order.push_back(digest);
        }
        if self.order.len() > MAX_CACHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for PasswordVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordVerifier").finish_non_exhaustive()
    }
}

impl PasswordVerifier {
    /// Creates a verifier with an empty cache.
    ///
    /// # Errors
    /// Fails if the system's random number generator fails.
    pub(crate) fn new() -> Result<Self, ring::error::Unspecified> {
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            secret,
            cache: Mutex::default(),
            permits: Arc::new(Semaphore::new((cores / 2).clamp(1, MAX_CONCURRENT))),
            pending: Mutex::default(),
        })
    }

    /// Checks the credentials of a request.
    ///
    /// # Errors
    /// Returns the response to send if the request is rejected.
    pub(crate) async fn authorize(
        self: &Arc<Self>,
        users: &PasswordHashes,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<(), Response> {
        let Some(credentials) = Credentials::from_headers(headers) else { return Err(unauthorized()) };
        let hash = std::str::from_utf8(&credentials.user).ok().and_then(|user| users.by_user.get(user));
        let (hash, exists) = hash.map_or((&users.dummy, false), |hash| (hash, true));
        let digest = self.digest(&credentials, hash);
        let accepted = match self.cached(&digest) {
            Some(accepted) => accepted,
            None => self.verify(digest, credentials, hash.clone(), exists, peer).await?,
        };
        if accepted { Ok(()) } else { Err(unauthorized()) }
    }

    /// Verifies a password as soon as a permit is available.
    async fn verify(
        self: &Arc<Self>,
        digest: Digest,
        credentials: Credentials,
        hash: SecretString,
        exists: bool,
        peer: IpAddr,
    ) -> Result<bool, Response> {
        let _pending = PendingRequest::new(self, peer).ok_or_else(too_many_requests)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| unavailable())?;
        // Another request with the same password may have been verified in the meantime.
        if let Some(accepted) = self.cached(&digest) {
            return Ok(accepted);
        }
        let this = Arc::clone(self);
        let verified = tokio::task::spawn_blocking(move || {
            // Also run for an unknown user, so that the response takes equally long.
            let matches = bcrypt::verify(credentials.password.expose_secret(), hash.expose_secret());
            let accepted = matches.unwrap_or(false) && exists;
            this.cache_result(digest, accepted);
            // Held until here even if the client has disconnected.
            drop(permit);
            accepted
        });
        verified.await.map_err(|_| unavailable())
    }

    fn digest(&self, credentials: &Credentials, hash: &SecretString) -> Digest {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in [&credentials.user, credentials.password.expose_secret(), hash.expose_secret().as_bytes()]
        {
            // Length-prefixed so that different parts never produce the same input.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut digest = Digest::default();
        for (to, from) in digest.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        digest
    }

    fn cached(&self, digest: &Digest) -> Option<bool> {
        let cache = self.cache();
        let accepted = cache.accepted.digests.contains(digest).then_some(true);
        accepted.or(cache.rejected.digests.contains(digest).then_some(false))
    }

    fn cache_result(&self, digest: Digest, accepted: bool) {
        let mut cache = self.cache();
        if accepted { cache.accepted.add(digest) } else { cache.rejected.add(digest) }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock()
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.pending.lock()
    }
}

/// Request that is waiting for password verification; counted until dropped.
struct PendingRequest<'a> {
    verifier: &'a PasswordVerifier,
    network: IpAddr,
}

impl<'a> PendingRequest<'a> {
    /// Counts a request from `peer`. Returns `None` if its network already has [`MAX_PENDING`] requests; more would delay
    /// those from other networks.
    fn new(verifier: &'a PasswordVerifier, peer: IpAddr) -> Option<Self> {
        let network = network(peer);
        let mut pending = verifier.pending();
        let count = pending.entry(network).or_default();
        if *count >= MAX_PENDING {
            return None;
        }
        *count += 1;
        Some(Self { verifier, network })
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        let mut pending = self.verifier.pending();
        if let Some(count) = pending.get_mut(&self.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pending.remove(&self.network);
            }
        }
    }
}

/// Returns the address that identifies a client: its IPv4 address, or its IPv6 /64 network, within which it can use any
/// address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((address.to_bits() & !u128::from(u64::MAX)).to_be_bytes()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn unauthorized() -> Response {
    let body = "missing or wrong username or password; users are defined in the file of --web.config.file\n";
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, CHALLENGE)], body).into_response()
}

fn too_many_requests() -> Response {
    let body = "too many requests from this address are waiting for password verification; retry in 1 s\n";
    (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], body).into_response()
}

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the exporter is shutting down\n").into_response()
}
