//! The endpoints of the status page and the API.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use parking_lot::Mutex;

use super::assets::{ASSETS, page};
use super::calls::CallsAnswer;
use super::query::{BadQuery, CallsQuery, ScriptsQuery, TargetsQuery};
use super::scripts::{ScriptsAnswer, Sum, sums};
use super::summary::summary;
use super::targets::{TargetRow, TargetsAnswer, rows};
use super::{answer, text};
use crate::clock::Mono;
use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::parse::Privacy;

/// What was made of all targets is used again for so long: many open pages cost no more than a few.
const KEPT_FOR: Duration = Duration::from_millis(200);

/// Making it takes at most 1 / so many of the time.
const SHARE: u32 = 4;

/// What the endpoints answer from.
struct Site {
    fleet: Arc<Fleet>,
    telemetry_path: String,
    privacy: Privacy,
    rows: Kept<Vec<Arc<TargetRow>>>,
    sums: Kept<Vec<Sum>>,
}

/// Something that is made of all targets, and kept for a moment.
struct Kept<T> {
    kept: Mutex<Option<Made<T>>>,
    /// Held while it is made: who comes meanwhile waits for that.
    making: tokio::sync::Mutex<()>,
}

struct Made<T> {
    value: Arc<T>,
    /// When, and how long that took.
    at: Mono,
    took: Duration,
}

/// The page at `/`, its files, and `/api/`.
pub(crate) fn router(config: &WebConfig, fleet: Arc<Fleet>) -> Router {
    let site = Site {
        fleet,
        telemetry_path: config.telemetry_path.clone(),
        privacy: config.privacy,
        rows: Kept::new(),
        sums: Kept::new(),
    };
    let mut router = Router::new()
        .route("/", get(front))
        .route("/api/v1/targets", api(get(targets)))
        .route("/api/v1/scripts", api(get(scripts)))
        .route("/api/v1/slow", api(get(slow)))
        .route("/api/{*rest}", get(nowhere).fallback(nowhere));
    for asset in ASSETS {
        let file =
            async |request: HeaderMap| answer::text(&request, asset.content_type, asset.text.to_owned());
        router = router.route(asset.path, get(file));
    }
    router.with_state(Arc::new(site))
}

/// A path of the API: other methods are told so in its own way.
fn api(methods: MethodRouter<Arc<Site>>) -> MethodRouter<Arc<Site>> {
    methods.fallback(async || {
        let problem = "the API can only be read: use GET";
        let mut response = answer::error(StatusCode::METHOD_NOT_ALLOWED, problem);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        response
    })
}

async fn nowhere() -> Response {
    let problem = "there is nothing here; there are /api/v1/targets, /api/v1/scripts and /api/v1/slow";
    answer::error(StatusCode::NOT_FOUND, problem)
}

/// The page; as plain text for whoever prefers that to HTML.
async fn front(State(site): State<Arc<Site>>, request: HeaderMap) -> Response {
    let rows = match site.rows.get(&site, rows).await {
        Ok(rows) => rows,
        Err(response) => return response,
    };
    let summary = summary(&rows, site.fleet.clock().now().unix);
    let accepted = request.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if accepted.contains("text/plain") && !accepted.contains("text/html") {
        answer::text(&request, "text/plain; charset=utf-8", summary)
    } else {
        answer::text(&request, "text/html; charset=utf-8", page(&site.telemetry_path, &summary))
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn targets(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = TargetsQuery::parse(&query.unwrap_or_default()).map_err(bad_query)?;
    let rows = site.rows.get(&site, rows).await?;
    Ok(site.answer(&request, &TargetsAnswer::of(&rows, site.privacy, &query)))
}

async fn scripts(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = ScriptsQuery::parse(&query.unwrap_or_default()).map_err(bad_query)?;
    let sums = match query.target.clone() {
        None => site.sums.get(&site, |fleet| sums(fleet, None)).await?,
        Some(target) => Arc::new(site.aside(move |fleet| sums(fleet, Some(&target))).await?),
    };
    Ok(site.answer(
        &request,
        &ScriptsAnswer::of(&sums, &query, site.privacy.show_source.then_some(&*site.fleet)),
    ))
}

async fn slow(
    State(site): State<Arc<Site>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = CallsQuery::parse(&query.unwrap_or_default()).map_err(bad_query)?;
    let calls = site.aside(move |fleet| CallsAnswer::of(fleet, &query)).await?;
    Ok(site.answer(&request, &calls))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands errors over")]
fn bad_query(problem: BadQuery) -> Response {
    answer::error(StatusCode::BAD_REQUEST, &text::visible(&problem.to_string()))
}

impl Site {
    fn answer<T: serde::Serialize>(&self, request: &HeaderMap, answer: &T) -> Response {
        answer::json(request, self.fleet.clock().now().unix, answer)
    }

    /// Makes something of the targets on a thread of its own: with many of them it takes so long that polls would wait.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Fleet) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let fleet = Arc::clone(&self.fleet);
        let made = tokio::task::spawn_blocking(move || work(&fleet)).await;
        made.map_err(|problem| answer::error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()))
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    fn new() -> Self {
        Self { kept: Mutex::new(None), making: tokio::sync::Mutex::new(()) }
    }

    /// What was made a moment ago, or what `work` makes now.
    async fn get(&self, site: &Site, work: fn(&Fleet) -> T) -> Result<Arc<T>, Response> {
        if let Some(value) = self.fresh(site) {
            return Ok(value);
        }
        let _making = self.making.lock().await;
        if let Some(value) = self.fresh(site) {
            return Ok(value);
        }
        let began = site.fleet.clock().now().mono;
        let value = Arc::new(site.aside(work).await?);
        let made = site.fleet.clock().now().mono;
        let kept = Made { value: Arc::clone(&value), at: made, took: made.since(began) };
        *self.kept.lock() = Some(kept);
        Ok(value)
    }

    fn fresh(&self, site: &Site) -> Option<Arc<T>> {
        let kept = self.kept.lock();
        let kept = kept.as_ref()?;
        let age = site.fleet.clock().now().mono.since(kept.at);
        (age < KEPT_FOR.max(kept.took.saturating_mul(SHARE))).then(|| Arc::clone(&kept.value))
    }
}
