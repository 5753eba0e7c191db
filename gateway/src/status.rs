//! How the box is, for people and machines on the box itself: plain HTTP on loopback, no log-in, no
//! names, nothing of a message.

mod bridges;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use domain::id::GatewayId;
use domain::kind::Lane;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::bridge::Board;
use crate::broker::{CloseReason, Counters, Refusal};
use crate::clock::BoxClock;
use crate::forwarding::Ages;
use crate::gauges::Gauges;
use crate::intake::Unacknowledged;
use crate::store::Standing;
use crate::store::afloat::Afloat;
use crate::uplink::Link;

/// What is shown.
#[derive(Clone)]
pub struct Shown {
    /// The box.
    pub gateway: GatewayId,
    /// Counts of store and intake.
    pub gauges: Arc<Gauges>,
    /// Counts of the MQTT server.
    pub broker: Arc<Counters>,
    /// How the link to the cloud stands.
    pub link: watch::Receiver<Link>,
    /// What is wrong with the store.
    pub standing: watch::Receiver<Standing>,
    /// How the bridges to other brokers stand.
    pub bridges: Board,
    /// Devices heard at QoS 0.
    pub unacknowledged: watch::Receiver<Unacknowledged>,
    /// Tells for how long something has been so.
    pub clock: BoxClock,
    /// The Config version in force; 0 = none.
    pub version: watch::Receiver<u64>,
    /// Age of the oldest row without a receipt, per lane.
    pub waiting: watch::Receiver<Ages>,
    /// What memory alone holds while the disk takes nothing.
    pub afloat: watch::Receiver<Afloat>,
}

/// Answers until told to stop.
pub async fn serve(listener: TcpListener, shown: Shown, mut stop: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/", get(words))
        .route("/healthz", get(|| async { Json(json!({"alive": true})) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shown);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // An error means that whoever could say stop is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the status listener ended");
    }
}

impl Shown {
    fn link_in_words(&self) -> String {
        match &*self.link.borrow() {
            Link::Up => "up".to_owned(),
            Link::Connecting => "connecting".to_owned(),
            Link::Resting(Some(trouble)) => format!("down: {trouble}"),
            Link::Resting(None) => "down".to_owned(),
        }
    }

    fn faults(&self) -> Vec<String> {
        let standing = *self.standing.borrow();
        let own = [
            (
                *self.version.borrow() == 0,
                "no configuration from the cloud yet: no device can log in",
            ),
            (
                standing.failing || self.afloat.borrow().epoch().is_some(),
                "the disk does not take events: life safety goes up from memory and is acknowledged when the cloud has it, all else is not acknowledged",
            ),
            (
                standing.shedding,
                "the outbox is full: doors and levels are counted, not kept",
            ),
            (
                standing.damaged,
                "the outbox file was damaged and set aside",
            ),
            (
                self.gauges.not_forwarded.get(),
                "not forwarded: dial 110 / 119 yourself",
            ),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, words)| words.to_owned());
        let bridges = self.bridges.borrow();
        let theirs = bridges.iter().flat_map(bridges::faults);
        let now = self.clock.now().monotonic;
        let unsure = self.unacknowledged.borrow();
        let unsure = unsure.listed(now).filter(|(_, u)| u.is_life_safety);
        let unsure = unsure.map(|(device, u)| bridges::not_acknowledged(device, u));
        own.chain(theirs).chain(unsure).collect()
    }
}

async fn words(State(shown): State<Shown>) -> Json<Value> {
    let lanes: Vec<Value> = Lane::ALL
        .into_iter()
        .zip(*shown.waiting.borrow())
        .map(|(lane, age)| {
            let gauges = shown.gauges.lane(lane);
            json!({
                "lane": lane,
                "waiting": gauges.rows.get(),
                "bytes": gauges.bytes.get(),
                "oldest_s": age.map(|age| age.as_secs()),
            })
        })
        .collect();
    let now = shown.clock.now().monotonic;
    let all = shown.bridges.borrow();
    let bridges: Vec<Value> = all.iter().map(|b| bridges::words(b, now)).collect();
    drop(all);
    let all = shown.unacknowledged.borrow().clone();
    let unsure: Vec<Value> = all
        .listed(now)
        .map(|(d, u)| bridges::unsure(d, u, now))
        .collect();
    Json(json!({
        "gateway": shown.gateway,
        "cloud": shown.link_in_words(),
        "config_version": *shown.version.borrow(),
        "devices_connected": shown.broker.sessions.load(Ordering::Relaxed),
        "lanes": lanes,
        "in_memory_only": shown.afloat.borrow().held().0,
        "bridges": bridges,
        "not_acknowledged": unsure,
        "faults": shown.faults(),
    }))
}

/// Ready means: devices can be heard and acknowledged. The cloud being away does not make a box
/// unready; that is what it is for.
async fn ready(State(shown): State<Shown>) -> Response {
    let takes = !shown.standing.borrow().failing && shown.afloat.borrow().epoch().is_none();
    let configured = *shown.version.borrow() > 0;
    let ready = configured && takes;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({"ready": ready, "configured": configured, "store_takes_events": takes});
    (status, Json(body)).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text(&shown)).into_response()
}

fn text(shown: &Shown) -> String {
    let mut out = String::new();
    let gauges = &shown.gauges;
    let waiting = *shown.waiting.borrow();
    let oldest = waiting.iter().flatten().max().copied().unwrap_or_default();
    line(
        &mut out,
        "antuo_box_oldest_unreceipted_age_seconds",
        "",
        oldest.as_secs_f64(),
    );
    for (lane, age) in Lane::ALL.into_iter().zip(waiting) {
        let label = format!("{{lane=\"{lane}\"}}");
        let held = gauges.lane(lane);
        line(&mut out, "antuo_box_waiting_rows", &label, held.rows.get());
        line(
            &mut out,
            "antuo_box_waiting_bytes",
            &label,
            held.bytes.get(),
        );
        let age = age.unwrap_or_default().as_secs_f64();
        line(&mut out, "antuo_box_waiting_age_seconds", &label, age);
    }
    let in_memory = shown.afloat.borrow().held().0;
    line(&mut out, "antuo_box_in_memory_only_rows", "", in_memory);
    let up = u8::from(*shown.link.borrow() == Link::Up);
    line(&mut out, "antuo_box_uplink_up", "", up);
    line(
        &mut out,
        "antuo_box_not_forwarded",
        "",
        u8::from(gauges.not_forwarded.get()),
    );
    line(
        &mut out,
        "antuo_box_config_version",
        "",
        *shown.version.borrow(),
    );
    for (name, number) in [
        ("antuo_box_reconnects_total", &gauges.reconnects),
        ("antuo_box_commits_total", &gauges.commits),
        ("antuo_box_commit_failures_total", &gauges.commit_failures),
        ("antuo_box_shed_total", &gauges.shed),
        ("antuo_box_publishes_total", &gauges.publishes),
        ("antuo_box_publishes_failed_total", &gauges.publishes_failed),
        ("antuo_box_lan_certificate_until_seconds", &gauges.lan_until),
    ] {
        line(&mut out, name, "", number.get());
    }
    let told = [
        ("ingest.rejected", &gauges.rejected),
        ("ingest.unmapped", &gauges.unmapped),
    ];
    for (kind, number) in told {
        let label = format!("{{kind=\"{kind}\"}}");
        line(&mut out, "antuo_box_events_total", &label, number.get());
    }
    broker(&mut out, &shown.broker);
    let now = shown.clock.now().monotonic;
    let unsure = shown.unacknowledged.borrow().listed(now).count();
    line(&mut out, "antuo_box_not_acknowledged_devices", "", unsure);
    for bridge in shown.bridges.borrow().iter() {
        bridges::metrics(&mut out, bridge);
    }
    out
}

fn broker(out: &mut String, counters: &Counters) {
    for (name, label, counter) in [
        ("sessions", "", &counters.sessions),
        ("sessions_kept", "", &counters.kept_sessions),
        ("sessions_forgotten_total", "", &counters.sessions_forgotten),
        ("crowded_out_total", "", &counters.crowded_out),
        ("retained", "", &counters.retained),
        ("publishes_total", "{qos=\"0\"}", &counters.publishes_qos0),
        ("publishes_total", "{qos=\"1\"}", &counters.publishes_qos1),
        ("publishes_total", "{qos=\"2\"}", &counters.publishes_qos2),
        ("sent_total", "", &counters.sent),
        (
            "dropped_total",
            "{why=\"queue_full\"}",
            &counters.queue_full,
        ),
        ("dropped_total", "{why=\"too_large\"}", &counters.too_large),
        (
            "dropped_total",
            "{why=\"retained_full\"}",
            &counters.retained_full,
        ),
    ] {
        let name = format!("antuo_box_mqtt_{name}");
        line(out, &name, label, counter.load(Ordering::Relaxed));
    }
    for why in Refusal::ALL {
        let label = format!("{{why=\"{}\"}}", why.as_str());
        line(
            out,
            "antuo_box_mqtt_refused_total",
            &label,
            counters.refused(why),
        );
    }
    for reason in CloseReason::ALL {
        let label = format!("{{why=\"{}\"}}", reason.as_str());
        line(
            out,
            "antuo_box_mqtt_closed_total",
            &label,
            counters.closed(reason),
        );
    }
}

fn line(out: &mut String, name: &str, label: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name}{label} {value}");
}
