//! The page's routes: what may be asked by whom, log-in and log-out, and the headers that go with all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Entropy;
use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::config::{Config, LocalRole, LocalUser};
use domain::digest::to_hex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use super::attempts::{Attempts, Tries};
use super::look::{Line, Looks};
use super::pin::{PIN_BYTES, Pins, device_cookie, known_device};
use super::session::{LASTS, Sessions, Who};
use super::view::{self, CARERS, INSTALLERS, Lamp, Version};
use super::words;
use crate::clock::BoxClock;
use crate::seal::BoxKey;
use crate::signal_log::SignalLog;
use crate::status::Shown;

/// Largest body taken, in bytes. Beyond: refused.
const BODY_BYTES: usize = 4 * 1024;
/// Longest wait for a body. Beyond: refused.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Longest name, and longest text looked for, in bytes. A longer name fits nobody.
const TEXT_BYTES: usize = 128;
/// The cookie of a log-in.
const SESSION: &str = "__Host-antuo-box";
/// The cookie of a device that somebody logged in on.
const DEVICE: &str = "__Host-antuo-device";
/// How long a device is known.
const DEVICE_LASTS: Duration = Duration::from_secs(180 * 86_400);
/// Set by the page when a person did something since it last asked.
const TOUCH: &str = "x-antuo-touch";

/// Whatever a page may load comes from the box itself, and no page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What all requests share.
pub(super) struct Page {
    pub shown: Shown,
    pub config: watch::Receiver<Option<Arc<Config>>>,
    pub signals: SignalLog,
    pub looks: Looks,
    pub line: watch::Receiver<Line>,
    pub clock: BoxClock,
    pub entropy: Entropy,
    pub box_key: BoxKey,
    pub pins: Pins,
    pub sessions: Mutex<Sessions>,
    pub attempts: Mutex<Attempts>,
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why something is not answered; each has a word of its own for the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Not logged in, or no longer.
    Nobody,
    /// Logged in, without the right.
    NotYours,
    /// Name and PIN do not fit; never says which.
    Wrong,
    /// Too many wrong tries; after so long again.
    Wait(Duration),
    /// Too many at once.
    Busy,
    /// Sent by another page, or by no page.
    Foreign,
    /// Not what is taken here.
    Unreadable,
    /// The box itself cannot.
    Failed,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Nobody => (StatusCode::UNAUTHORIZED, "not_logged_in"),
            Self::NotYours => (StatusCode::FORBIDDEN, "not_yours"),
            Self::Wrong => (StatusCode::FORBIDDEN, "wrong_pin"),
            Self::Wait(_) => (StatusCode::TOO_MANY_REQUESTS, "wait"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Foreign => (StatusCode::FORBIDDEN, "foreign"),
            Self::Unreadable => (StatusCode::BAD_REQUEST, "unreadable"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        let wait_s = match self {
            Self::Wait(wait) => Some(wait.as_secs().max(1)),
            Self::Nobody
            | Self::NotYours
            | Self::Wrong
            | Self::Busy
            | Self::Foreign
            | Self::Unreadable
            | Self::Failed => None,
        };
        (status, Json(json!({"error": code, "wait_s": wait_s}))).into_response()
    }
}

/// The page itself.
pub(super) fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(|| async { file(words::HTML, "text/html") }))
        .route(
            "/page.js",
            get(|| async { file(words::SCRIPT, "text/javascript") }),
        )
        .route(
            "/page.css",
            get(|| async { file(words::STYLE, "text/css") }),
        )
        .route(
            "/words.json",
            get(|| async { file(words::WORDS, "application/json") }),
        )
        // Browsers ask for it unasked.
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .route("/api/lamp", get(lamp))
        .route("/api/session", post(log_in))
        .route("/api/session/end", post(log_out))
        .route("/api/me", get(me))
        .route("/api/status", get(status))
        .route("/api/inside", get(inside))
        .route("/api/signals", get(signals))
        .with_state(page)
        .layer(from_fn(guard))
}

/// Plain HTTP: leads to the page, and shows the lamp to whoever cannot follow. No names.
pub(super) fn redirect(page: Arc<Page>, port: u16) -> Router {
    let lead = move |State(page): State<Arc<Page>>, headers: HeaderMap, request: Request| async move {
        let lamp = Lamp::of(&page.looks.look().await);
        let mut answer = file(&words::lamp_page(&lamp), "text/html");
        let to = host(&headers).map(|host| format!("https://{host}:{port}/"));
        let to = to.and_then(|to| HeaderValue::try_from(to).ok());
        if let Some(to) = to.filter(|_| request.uri().path() != "/lamp") {
            *answer.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            answer.headers_mut().insert(header::LOCATION, to);
        }
        answer
    };
    Router::new()
        .route(
            "/page.css",
            get(|| async { file(words::STYLE, "text/css") }),
        )
        .fallback(get(lead))
        .with_state(page)
        .layer(from_fn(guard))
}

/// The host a browser asked for, without its port; none when it is no host.
fn host(headers: &HeaderMap) -> Option<&str> {
    let asked = headers.get(header::HOST)?.to_str().ok()?;
    let host = match asked.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => asked,
    };
    let is_fine = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    (!host.is_empty() && host.bytes().all(is_fine)).then_some(host)
}

fn file(text: &str, kind: &'static str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text.to_owned()).into_response()
}

/// Headers for every answer; and nothing is changed but from a page of this very origin.
async fn guard(request: Request, next: Next) -> Response {
    let may = request.method() == Method::GET || is_own(request.headers());
    let mut answer = if may {
        next.run(request).await
    } else {
        Refused::Foreign.into_response()
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Browsers say where a request comes from; what says nothing is no browser of ours.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(HeaderValue::to_str);
    if let Some(site) = text("sec-fetch-site") {
        return site.is_ok_and(|site| site == "same-origin");
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    match (text("origin"), host) {
        (Some(Ok(origin)), Some(host)) => origin.strip_prefix("https://") == Some(host),
        (Some(_) | None, _) => false,
    }
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(header::COOKIE).iter();
    let mut pairs = all
        .flat_map(|value| value.to_str().unwrap_or_default().split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn set_cookie(name: &str, value: &str, lasts: Duration) -> String {
    let seconds = lasts.as_secs();
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
}

impl Page {
    fn in_force(&self) -> Option<Arc<Config>> {
        self.config.borrow().clone()
    }

    /// Whoever asks, if they are logged in and act in one of these capacities.
    fn whose(&self, headers: &HeaderMap, roles: &[LocalRole]) -> Result<Who, Refused> {
        let token = cookie(headers, SESSION).ok_or(Refused::Nobody)?;
        let config = self.in_force();
        let users = config
            .as_ref()
            .map_or(&[][..], |config| &config.local_users);
        let touches = headers.contains_key(TOUCH);
        let who = locked(&self.sessions)
            .whose(token, users, &self.clock.now(), touches)
            .ok_or(Refused::Nobody)?;
        if who.is_any(roles) {
            Ok(who)
        } else {
            Err(Refused::NotYours)
        }
    }

    /// Whether name and PIN fit; every try counts.
    async fn check(&self, given: LogIn, device: Option<&str>) -> Result<(Who, Tries), Refused> {
        let now = self.clock.now();
        let config = self.in_force();
        let users = config
            .as_ref()
            .map_or(&[][..], |config| &config.local_users);
        let who = Who::named(users, &given.name, &now);
        let known = who
            .as_ref()
            .and_then(|who| known_device(device?, who, &self.box_key));
        let tries = match known {
            Some(mark) => Tries::Device(mark),
            None => Tries::Name(LocalUser::folded(&given.name)),
        };
        locked(&self.attempts)
            .begin(&tries, now.monotonic)
            .map_err(Refused::Wait)?;
        let hash = who.as_ref().map(|who| who.pin_argon2.clone());
        // Whoever goes away during the check has tried all the same.
        match self.pins.check(hash, given.pin, known.is_some()).await {
            Ok(fits) => who
                .filter(|_| fits)
                .map(|who| (who, tries))
                .ok_or(Refused::Wrong),
            Err(error) => {
                locked(&self.attempts).came_to_nothing(&tries);
                tracing::warn!(%error, "a log-in could not be checked");
                Err(Refused::Busy)
            }
        }
    }
}

/// What is sent to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    name: String,
    pin: String,
}

async fn log_in(
    State(page): State<Arc<Page>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let body = timeout(BODY_WITHIN, to_bytes(body, BODY_BYTES)).await;
    let body = body.map_err(|_| Refused::Unreadable)?;
    let body = body.map_err(|_| Refused::Unreadable)?;
    let given: LogIn = serde_json::from_slice(&body).map_err(|_| Refused::Unreadable)?;
    if given.name.len() > TEXT_BYTES || given.pin.len() > PIN_BYTES {
        return Err(Refused::Wrong);
    }
    let (who, tries) = page.check(given, cookie(&headers, DEVICE)).await?;
    locked(&page.attempts).was_right(&tries);
    let chance = page.entropy.bytes::<32>().map_err(|_| Refused::Failed)?;
    let token = to_hex(&chance);
    let mark = match tries {
        Tries::Device(mark) => mark,
        Tries::Name(_) => page.entropy.bytes().map_err(|_| Refused::Failed)?,
    };
    let device = device_cookie(&who, mark, &page.box_key, &page.entropy);
    let device = device.map_err(|_| Refused::Failed)?;
    // The PIN may have changed during the check: then this log-in is over when it first asks for something.
    locked(&page.sessions).begin(&token, &who, page.clock.now().monotonic);
    tracing::info!(person = %who.person, "logged in on the page");
    let mut answer = Json(page.about(&who)).into_response();
    for value in [
        set_cookie(SESSION, &token, LASTS),
        set_cookie(DEVICE, &device, DEVICE_LASTS),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| Refused::Failed)?;
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
    Ok(answer)
}

async fn log_out(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    if let Some(token) = cookie(&headers, SESSION) {
        locked(&page.sessions).end(token);
    }
    let gone = set_cookie(SESSION, "", Duration::ZERO);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, gone)]).into_response()
}

/// Who is logged in, and how old the list of those who may is.
#[derive(Serialize)]
struct About {
    name: String,
    roles: Vec<LocalRole>,
    time_zone: Option<String>,
    users: Version,
}

impl Page {
    fn about(&self, who: &Who) -> About {
        let config = self.in_force();
        let place = config.as_ref().and_then(|config| config.place.as_ref());
        About {
            name: who.short_name.clone(),
            roles: who.roles.clone(),
            time_zone: place.map(|place| place.time_zone.clone()),
            users: view::version(config.as_deref(), &self.line.borrow()),
        }
    }
}

const ANY: &[LocalRole] = &[LocalRole::Carer, LocalRole::Director, LocalRole::Installer];

async fn me(State(page): State<Arc<Page>>, headers: HeaderMap) -> Result<Response, Refused> {
    let who = page.whose(&headers, ANY)?;
    Ok(Json(page.about(&who)).into_response())
}

async fn lamp(State(page): State<Arc<Page>>) -> Json<Lamp> {
    Json(Lamp::of(&page.looks.look().await))
}

async fn status(State(page): State<Arc<Page>>, headers: HeaderMap) -> Result<Response, Refused> {
    let who = page.whose(&headers, ANY)?;
    let look = page.looks.look().await;
    let config = page.in_force();
    let line = page.line.borrow().clone();
    let status = view::status(&who, &page.shown, &look, &line, config.as_deref());
    Ok(Json(status).into_response())
}

async fn inside(State(page): State<Arc<Page>>, headers: HeaderMap) -> Result<Response, Refused> {
    page.whose(&headers, CARERS)?;
    let look = page.looks.look().await;
    let line = page.line.borrow().clone();
    Ok(Json(view::inside(&look, &line)).into_response())
}

/// What of the log is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    find: String,
}

async fn signals(
    State(page): State<Arc<Page>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refused> {
    let who = page.whose(&headers, INSTALLERS)?;
    if wanted.find.len() > TEXT_BYTES {
        return Err(Refused::Unreadable);
    }
    let config = page.in_force();
    let lines = page.signals.after(wanted.after);
    Ok(Json(view::log(&who, lines, &wanted.find, config.as_deref())).into_response())
}
