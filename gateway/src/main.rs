//! The program `antuo-gateway`: reads its words and settings, then runs the box.

use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use antuo_gateway::config::{CLOUD_ADDRESS_ENV, Config};
use antuo_gateway::{app, chain, decode, lan};
use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The box of a childcare centre.
#[derive(Parser)]
#[command(version, about)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the box
    Run {
        /// The settings file
        #[arg(long)]
        config: PathBuf,
    },
    /// Say whether the settings can be used
    CheckConfig {
        /// The settings file
        #[arg(long)]
        config: PathBuf,
    },
    /// Read cases of device messages (JSON lines) and print the events they mean
    Decode,
}

fn main() -> ExitCode {
    match obey(Words::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("antuo-gateway: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<()> {
    match command {
        Command::Run { config } => run(&read(&config)?),
        Command::CheckConfig { config } => {
            let read = read(&config)?;
            read.lan.as_ref().map(lan::server_config).transpose()?;
            println!("{} can be used", config.display());
            Ok(())
        }
        Command::Decode => decode_lines(),
    }
}

fn read(path: &std::path::Path) -> Result<Config> {
    Ok(Config::read(path, std::env::var(CLOUD_ADDRESS_ENV).ok())?)
}

fn run(config: &Config) -> Result<()> {
    listen_to_the_log();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("another TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let end = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(app::run(config, end).await?)
    })
}

/// Logs go to standard error, in JSON when `ANTUO_LOG_FORMAT=json`; `ANTUO_LOG` filters.
fn listen_to_the_log() {
    let filter = EnvFilter::try_from_env("ANTUO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if std::env::var("ANTUO_LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

/// One line out for each case; a line that is none is told on standard error, and the others are
/// still read.
fn decode_lines() -> Result<()> {
    let mut out = io::stdout().lock();
    let mut bad = 0_u64;
    for (number, line) in io::stdin().lock().split(b'\n').enumerate() {
        let line = line.context("standard input")?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match decode::decode_bytes(&line) {
            Ok(read) => writeln!(out, "{read}").context("standard output")?,
            Err(fault) => {
                bad += 1;
                eprintln!("antuo-gateway: line {}: {}", number + 1, chain(&fault));
            }
        }
    }
    out.flush().context("standard output")?;
    match bad {
        0 => Ok(()),
        _ => bail!("lines that are no case: {bad}"),
    }
}
