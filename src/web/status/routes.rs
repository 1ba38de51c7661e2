//! Routes of the status page and the API.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use parking_lot::Mutex;

use super::assets::{ASSETS, page};
use super::calls::CallsResponse;
use super::incidents::IncidentsResponse;
use super::query::{CallsQuery, IncidentsQuery, QueryError, ScriptsQuery, TargetsQuery};
use super::response;
use super::scripts::{LintRow, ScriptTotals, ScriptsResponse, findings, source_of, totals};
use super::summary::summary;
use super::targets::{AlertmanagerRow, TargetRow, TargetsResponse, rows};
use crate::clock::Mono;
use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::parse::Privacy;
use crate::text::clean;

/// Minimum lifetime of a cached value, so that many open pages cost little more than one.
const MIN_CACHE_TIME: Duration = Duration::from_millis(200);

/// Lifetime of a cached value as a multiple of the time that it took to compute. Limits the share of CPU time spent on it.
const CACHE_TIME_FACTOR: u32 = 4;

/// Maximum length of the message for an invalid query, in bytes.
const MAX_ERROR: usize = 512;

/// State shared by the handlers.
struct AppState {
    fleet: Arc<Fleet>,
    telemetry_path: String,
    privacy: Privacy,
    rows: Cached<Vec<Arc<TargetRow>>>,
    totals: Cached<Vec<ScriptTotals>>,
    /// Most recently linted source and its findings.
    linted: Mutex<Option<Linted>>,
}

/// Source and its findings; `None` if it cannot be linted.
type Linted = (Arc<[u8]>, Option<Arc<[LintRow]>>);

/// Cache of a value that is computed from all targets.
struct Cached<T> {
    entry: Mutex<Option<CacheEntry<T>>>,
    /// Held during a computation, so that concurrent requests wait for its result.
    computing: tokio::sync::Mutex<()>,
}

struct CacheEntry<T> {
    value: Arc<T>,
    /// End of the computation.
    computed_at: Mono,
    /// Duration of the computation.
    took: Duration,
}

/// Creates the routes of the page at `/`, its files, and `/api/`.
pub(crate) fn router(config: &WebConfig, fleet: Arc<Fleet>) -> Router {
    let state = AppState {
        fleet,
        telemetry_path: config.telemetry_path.clone(),
        privacy: config.privacy,
        rows: Cached::new(),
        totals: Cached::new(),
        linted: Mutex::new(None),
    };
    let mut router = Router::new()
        .route("/", get(status_page))
        .route("/api/v1/targets", api(get(targets)))
        .route("/api/v1/scripts", api(get(scripts)))
        .route("/api/v1/slow", api(get(slow)))
        .route("/api/v1/incidents", api(get(incidents)))
        .route("/api/{*rest}", get(not_found).fallback(not_found));
    for asset in ASSETS {
        let file =
            async |request: HeaderMap| response::text(&request, asset.content_type, asset.text.to_owned());
        router = router.route(asset.path, get(file));
    }
    router.with_state(Arc::new(state))
}

/// Adds a JSON error response for other methods.
fn api(methods: MethodRouter<Arc<AppState>>) -> MethodRouter<Arc<AppState>> {
    methods.fallback(async || {
        let mut response = response::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        response
    })
}

async fn not_found() -> Response {
    let message =
        "not found; the API has /api/v1/targets, /api/v1/scripts, /api/v1/slow and /api/v1/incidents";
    response::error(StatusCode::NOT_FOUND, message)
}

/// Serves the page, or its plain-text summary if the client accepts plain text but not HTML.
async fn status_page(State(state): State<Arc<AppState>>, request: HeaderMap) -> Response {
    let rows = match state.rows.get(&state, rows).await {
        Ok(rows) => rows,
        Err(response) => return response,
    };
    let summary = summary(&rows, &state.exporter_problems(), state.fleet.clock().now().unix);
    let accepted = request.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut response = if accepted.contains("text/plain") && !accepted.contains("text/html") {
        response::text(&request, "text/plain; charset=utf-8", summary)
    } else {
        response::text(
            &request,
            "text/html; charset=utf-8",
            page(&state.telemetry_path, state.fleet.shard(), &summary),
        )
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn targets(
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = TargetsQuery::parse(&query.unwrap_or_default()).map_err(bad_request)?;
    let rows = state.rows.get(&state, rows).await?;
    Ok(state.json(
        &request,
        &TargetsResponse::new(
            &rows,
            state.exporter_problems(),
            AlertmanagerRow::all(&state.fleet),
            state.fleet.shard(),
            state.privacy,
            &query,
        ),
    ))
}

async fn scripts(
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = ScriptsQuery::parse(&query.unwrap_or_default()).map_err(bad_request)?;
    let totals = match query.target.clone() {
        None => state.totals.get(&state, |fleet| totals(fleet, None)).await?,
        Some(target) => Arc::new(state.compute(move |fleet| totals(fleet, Some(&target))).await?),
    };
    let sources = state.privacy.show_source.then_some(&*state.fleet);
    let response = ScriptsResponse::new(&totals, &query, sources);
    let source =
        query.script.as_ref().zip(sources).and_then(|(script, fleet)| source_of(&totals, script, fleet));
    let lint = match source {
        Some(source) => state.lint(source).await?,
        None => None,
    };
    Ok(state.json(&request, &response.with_lint(lint)))
}

async fn slow(
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = CallsQuery::parse(&query.unwrap_or_default()).map_err(bad_request)?;
    let calls = state.compute(move |fleet| CallsResponse::new(fleet, &query)).await?;
    Ok(state.json(&request, &calls))
}

async fn incidents(
    State(state): State<Arc<AppState>>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Result<Response, Response> {
    let query = IncidentsQuery::parse(&query.unwrap_or_default()).map_err(bad_request)?;
    let incidents = state.compute(move |fleet| IncidentsResponse::new(fleet, &query)).await?;
    Ok(state.json(&request, &incidents))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes errors by value")]
fn bad_request(error: QueryError) -> Response {
    response::error(StatusCode::BAD_REQUEST, &clean(&error.to_string(), MAX_ERROR))
}

impl AppState {
    fn json<T: serde::Serialize>(&self, request: &HeaderMap, value: &T) -> Response {
        response::json(request, self.fleet.clock().now().unix, value)
    }

    /// Returns the problems of the exporter itself.
    fn exporter_problems(&self) -> Vec<String> {
        let of_state_file = self.fleet.state_file_problem();
        of_state_file.into_iter().chain(AlertmanagerRow::problems(&self.fleet)).collect()
    }

    /// Lints a source on a blocking thread, unless it was the last one to be linted.
    async fn lint(&self, source: Arc<[u8]>) -> Result<Option<Arc<[LintRow]>>, Response> {
        let known = self.linted.lock().clone().filter(|(linted, _)| *linted == source);
        if let Some((_, findings)) = known {
            return Ok(findings);
        }
        let of = Arc::clone(&source);
        let found = self.compute(move |_| findings(&of)).await?;
        *self.linted.lock() = Some((source, found.clone()));
        Ok(found)
    }

    /// Runs `work` on a blocking thread, because with many targets it takes long enough to delay the polls.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Fleet) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let fleet = Arc::clone(&self.fleet);
        let result = tokio::task::spawn_blocking(move || work(&fleet)).await;
        result.map_err(|error| response::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
    }
}

impl<T: Send + Sync + 'static> Cached<T> {
    fn new() -> Self {
        Self { entry: Mutex::new(None), computing: tokio::sync::Mutex::new(()) }
    }

    /// Returns the cached value if it has not expired; otherwise computes it with `work`.
    async fn get(&self, state: &AppState, work: fn(&Fleet) -> T) -> Result<Arc<T>, Response> {
        if let Some(value) = self.unexpired(state) {
            return Ok(value);
        }
        let _computing = self.computing.lock().await;
        if let Some(value) = self.unexpired(state) {
            return Ok(value);
        }
        let started_at = state.fleet.clock().now().mono;
        let value = Arc::new(state.compute(work).await?);
        let computed_at = state.fleet.clock().now().mono;
        let entry =
            CacheEntry { value: Arc::clone(&value), computed_at, took: computed_at.since(started_at) };
        *self.entry.lock() = Some(entry);
        Ok(value)
    }

    fn unexpired(&self, state: &AppState) -> Option<Arc<T>> {
        let entry = self.entry.lock();
        let entry = entry.as_ref()?;
        let age = state.fleet.clock().now().mono.since(entry.computed_at);
        let lifetime = MIN_CACHE_TIME.max(entry.took.saturating_mul(CACHE_TIME_FACTOR));
        (age < lifetime).then(|| Arc::clone(&entry.value))
    }
}
