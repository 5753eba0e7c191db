//! What the world may ask over HTTP: one file an audience, own view types each.
//!
//! Two routers: browsers and apps on one listener, boxes on the other. Every route stands in one
//! table with its audience; the guard in front of each handler looks the caller's right up anew.

mod admin;
mod error;
mod family;
mod front;
mod gateway;
mod given;
mod guard;
mod operator;
mod ops;
mod session;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ambient::Clock;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};

use crate::access::{Access, Role};
use crate::boxes::Boxes;
use crate::db::Db;
use crate::dispatcher::Receivers;
use crate::engine::Engine;
use crate::health::Health;
use crate::ingest::Ingest;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::stop::Stop;
use crate::wake::Wakes;
use error::Problem;
pub use front::Front;
use guard::{Audience, guard};
pub use stream::Streams;

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    /// The store.
    pub db: Db,
    /// The clock.
    pub clock: Clock,
    /// Keys for names and Configs.
    pub keys: Arc<Keys>,
    /// The door people come in by.
    pub access: Access,
    /// The writer of cases.
    pub engine: Engine,
    /// The door for records.
    pub ingest: Ingest,
    /// Hints that rows changed.
    pub wakes: Wakes,
    /// Figures.
    pub metrics: Metrics,
    /// Connected boxes.
    pub boxes: Boxes,
    /// Open streams.
    pub streams: Streams,
    /// How the paths to receivers are.
    pub receivers: Receivers,
    /// Whether the process can work.
    pub health: Health,
    /// Tells long conversations to end.
    pub stop: Stop,
    /// This start of this replica, for opaque stream ids.
    pub epoch: Arc<str>,
    /// How browsers reach us.
    pub front: Front,
}

/// One route of the browsers' listener.
struct Route {
    path: &'static str,
    audience: Audience,
    handler: MethodRouter<Api>,
}

const OPERATOR: Audience = Audience::Role(Role::Operator);
const GUARDIAN: Audience = Audience::Role(Role::Guardian);
const ADMIN: Audience = Audience::Role(Role::Admin);

macro_rules! routes {
    ($($method:ident $path:literal $audience:expr => $handler:path;)+) => {
        fn routes() -> Vec<Route> {
            vec![$(Route {
                path: $path,
                audience: $audience,
                handler: on(MethodFilter::$method, $handler),
            },)+]
        }

        /// The table as the matrix test reads it.
        #[cfg(test)]
        const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path),)+];
    };
}

// Every route of the browsers' listener (contract C).
routes! {
    GET "/healthz" Audience::Anyone => ops::healthz;
    GET "/readyz" Audience::Anyone => ops::readyz;
    GET "/metrics" Audience::Anyone => ops::metrics;
    POST "/api/session" Audience::Anyone => session::log_in;
    DELETE "/api/session" Audience::LoggedIn => session::log_out;
    GET "/api/operator/incidents" OPERATOR => operator::list;
    GET "/api/operator/incidents/{id}" OPERATOR => operator::one;
    GET "/api/operator/incidents/{id}/events" OPERATOR => operator::events;
    POST "/api/operator/incidents/{id}/acknowledge" OPERATOR => operator::acknowledge;
    POST "/api/operator/incidents/{id}/note" OPERATOR => operator::note;
    POST "/api/operator/incidents/{id}/confirm" OPERATOR => operator::confirm;
    POST "/api/operator/incidents/{id}/close" OPERATOR => operator::close;
    POST "/api/operator/incidents/{id}/real" OPERATOR => operator::real;
    POST "/api/operator/centres/{id}/commands" OPERATOR => operator::give;
    GET "/api/operator/centres/{id}/commands" OPERATOR => operator::page;
    GET "/api/operator/centres/{id}/service" OPERATOR => operator::service;
    POST "/api/operator/dispatches/{id}/confirmed" OPERATOR => operator::dispatch_confirmed;
    GET "/api/operator/stream" OPERATOR => operator::stream;
    GET "/api/family/children" GUARDIAN => family::children;
    GET "/api/family/children/{id}/events" GUARDIAN => family::events;
    GET "/api/family/stream" GUARDIAN => family::stream;
    GET "/api/admin/gateways" ADMIN => admin::gateways;
}

/// The browsers' listener.
pub fn for_browsers(api: Api) -> Router {
    let guarded = |router: Router<Api>, route: Route| {
        let check = middleware::from_fn_with_state((api.clone(), route.audience), guard);
        router.route(route.path, route.handler.route_layer(check))
    };
    routes()
        .into_iter()
        .fold(Router::new(), guarded)
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || Problem::other_method())
        .layer(middleware::from_fn(plain_answers))
        .with_state(api)
}

/// The boxes' listener.
pub fn for_boxes(api: Api) -> Router {
    Router::new()
        .route("/v1/uplink", get(gateway::uplink))
        .fallback(async || Problem::not_found())
        .with_state(api)
}

/// Nothing we answer is to be kept by a cache or guessed at by a browser.
async fn plain_answers(request: Request, next: Next) -> Response {
    const NOSNIFF: (HeaderName, HeaderValue) = (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(NOSNIFF.0, NOSNIFF.1);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
