//! `antuo-sim`: a simulated town around the product, and its independent book-keeper.
//!
//! Knows only published formats: the device schema, the import file, the HTTP API, the commands of the two programs,
//! and DC-09. Imports nothing of the product's crates, so it cannot share their bugs.

mod addresses;
mod api;
mod audit;
mod books;
mod clock;
mod count;
mod daily;
mod dc09;
mod demo;
mod desk;
mod device;
mod devices;
mod feed;
mod ledger;
mod make_town;
mod narrator;
mod play;
mod process;
mod publisher;
mod receiver;
mod relay;
mod report;
mod script;
mod site;
mod sse;
mod stage;
mod town;
mod traffic;
mod view;
mod watch;
mod window;

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(
    name = "antuo-sim",
    about = "A simulated town around Antuo, and its independent book-keeper"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the import file of a small town
    Town(TownArgs),
    /// Be a DC-09 receiver
    Receiver(ReceiverArgs),
    /// Run the whole product with a town in it
    Demo(DemoArgs),
    /// Play random events against one box
    Traffic(TrafficArgs),
    /// Count ledgers against what the cloud shows; exit status 1 when something is wrong
    Count(CountArgs),
}

#[derive(Args)]
struct TownArgs {
    #[arg(long)]
    seed: u64,
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(make_town::MAX_CENTRES)))]
    centres: u16,
    /// Address of the police receiver
    #[arg(long, value_name = "ADDR")]
    police: String,
    #[arg(long, value_name = "ADDR")]
    police_backup: Option<String>,
    /// Address of the fire service's receiver
    #[arg(long, value_name = "ADDR")]
    fire: String,
    #[arg(long, value_name = "ADDR")]
    fire_backup: Option<String>,
    /// Address of the monitoring centre's receiver
    #[arg(long, value_name = "ADDR")]
    monitoring: String,
    #[arg(long, value_name = "ADDR")]
    monitoring_backup: Option<String>,
    /// Write to this file instead of standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct ReceiverArgs {
    /// The word for it in its ledger; the counting knows police, fire and monitoring
    #[arg(long, default_value = "police")]
    name: String,
    #[arg(long, value_name = "ADDR")]
    listen: String,
    /// Listen here as well, as the same receiver's backup
    #[arg(long, value_name = "ADDR")]
    backup: Option<String>,
    /// mute, nak, duh, close or garbled; delay=MS; skew=S; divided by commas
    #[arg(long, default_value = "")]
    faults: receiver::Faults,
    /// The same for the backup
    #[arg(long, default_value = "")]
    backup_faults: receiver::Faults,
    /// Keep the ledger here; what an earlier run wrote is remembered
    #[arg(long)]
    ledger: Option<PathBuf>,
}

#[derive(Args)]
struct DemoArgs {
    /// Folder with antuo-cloud and antuo-gateway
    #[arg(long)]
    bin_dir: PathBuf,
    /// Folder for everything written; emptied at the start
    #[arg(long)]
    data: PathBuf,
    /// Play the scripted stretch of about this length, count, and end
    #[arg(long)]
    seconds: Option<u64>,
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct TrafficArgs {
    /// The box: ADDR:PORT, or the path of its addresses.json, read anew before each attempt
    #[arg(long, value_name = "ADDR|FILE")]
    mqtt: addresses::Broker,
    #[arg(long)]
    town: PathBuf,
    #[arg(long)]
    centre: uuid::Uuid,
    /// Only the devices of this box
    #[arg(long)]
    gateway: Option<uuid::Uuid>,
    #[arg(long)]
    seed: u64,
    #[arg(long, default_value_t = 200)]
    events: u64,
    /// Pause between two messages
    #[arg(long, default_value_t = 20, value_name = "MS")]
    pace_ms: u64,
    /// duplicate=PERCENT, garble=…, mute=…, cut=…, divided by commas
    #[arg(long, default_value = "")]
    faults: traffic::Faults,
    /// Keep the ledger here; an earlier run is gone on from
    #[arg(long)]
    ledger: PathBuf,
    /// Longest wait for the last PUBACK
    #[arg(long, default_value_t = 60, value_name = "S")]
    deadline_s: u64,
}

#[derive(Args)]
struct CountArgs {
    /// Base address of the cloud, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    cloud: String,
    #[arg(long)]
    town: PathBuf,
    /// Ledgers of devices and of receivers
    #[arg(long, required = true, num_args = 1..)]
    ledger: Vec<PathBuf>,
    /// Longest wait until the counts are clean and stand still
    #[arg(long, default_value_t = 30, value_name = "S")]
    settle_s: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ANTUO_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,rumqttc=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let done = match Cli::parse().command {
        Command::Town(args) => town(args),
        Command::Receiver(args) => receiver(args).await,
        Command::Demo(args) => demo(args).await,
        Command::Traffic(args) => traffic(args).await,
        Command::Count(args) => count(args).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("antuo-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn town(args: TownArgs) -> anyhow::Result<bool> {
    let addresses = make_town::Addresses {
        police: (args.police, args.police_backup),
        fire: (args.fire, args.fire_backup),
        monitoring: (args.monitoring, args.monitoring_backup),
    };
    let town = make_town::make(args.seed, args.centres, &addresses);
    let text = serde_json::to_string_pretty(&town)?;
    match args.out {
        Some(path) => std::fs::write(&path, text)
            .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?,
        None => report::say(&text),
    }
    Ok(true)
}

/// Runs until SIGTERM or Ctrl-C. The first line printed says where it listens.
async fn receiver(args: ReceiverArgs) -> anyhow::Result<bool> {
    let receiver = receiver::DcReceiver::open(
        &args.name,
        args.ledger.as_deref(),
        clock::Clock::start(),
        true,
    )?;
    receiver.set_faults(args.faults);
    receiver.set_backup_faults(args.backup_faults);
    let failed = |address: &str, error| anyhow!("cannot listen on {address}: {error}");
    let listen = receiver
        .listen(&args.listen)
        .await
        .map_err(|error| failed(&args.listen, error))?;
    let mut backup = None;
    if let Some(address) = &args.backup {
        let bound = receiver.listen_as_backup(address).await;
        backup = Some(bound.map_err(|error| failed(address, error))?);
    }
    report::print_json(
        &serde_json::json!({"receiver": args.name, "listen": listen, "backup": backup}),
    );
    std::thread::spawn(move || switch_by_lines(&receiver));
    demo::stopped().await;
    Ok(true)
}

/// Switches faults by lines on standard input: `main mute`, `backup delay=500`, `main` (proper again).
fn switch_by_lines(receiver: &receiver::DcReceiver) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (listener, faults) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match (listener, faults.parse()) {
            ("main", Ok(faults)) => receiver.set_faults(faults),
            ("backup", Ok(faults)) => receiver.set_backup_faults(faults),
            (_, Ok(_)) => tracing::error!(listener, "neither main nor backup"),
            (_, Err(error)) => tracing::error!(%error, "not switched"),
        }
    }
}

async fn demo(args: DemoArgs) -> anyhow::Result<bool> {
    let DemoArgs {
        bin_dir,
        data,
        seconds,
        seed,
    } = args;
    Ok(demo::run(demo::Demo {
        bin_dir,
        data,
        seconds,
        seed,
    })
    .await?)
}

async fn traffic(args: TrafficArgs) -> anyhow::Result<bool> {
    let traffic = traffic::Traffic {
        broker: args.mqtt,
        town: args.town,
        centre: args.centre,
        gateway: args.gateway,
        seed: args.seed,
        events: args.events,
        pace: Duration::from_millis(args.pace_ms),
        faults: args.faults,
        ledger: args.ledger,
        deadline: Duration::from_secs(args.deadline_s),
    };
    traffic::run(traffic).await?;
    Ok(true)
}

async fn count(args: CountArgs) -> anyhow::Result<bool> {
    let town = town::Town::read(&args.town)?;
    let mut auditor = audit::Auditor::new(api::Api::at(&args.cloud)?, &town);
    let tally = auditor
        .settle(&args.ledger, Duration::from_secs(args.settle_s))
        .await?;
    report::print(&tally);
    Ok(tally.clean())
}
