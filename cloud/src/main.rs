//! The command `antuo-cloud`.

use std::io::{IsTerminal as _, Read as _, stderr, stdin};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambient::{Clock, Entropy};
use antuo_cloud::config::Config;
use antuo_cloud::keys::{Keys, LAN_VALIDITY, LanName};
use antuo_cloud::process::keep_files_private;
use antuo_cloud::setup::import::{DOCUMENT_MAX, import};
use antuo_cloud::setup::init::{Init, init};
use antuo_cloud::setup::provision::{Provision, lan_certificate, provision};
use antuo_cloud::verify::verify;
use antuo_cloud::{app, setup};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use domain::id::{CentreId, GatewayId};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Takes alarms from childcare centres, tells agencies and people.
#[derive(Parser)]
#[command(name = "antuo-cloud", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a folder with keys, settings and an empty database.
    Init {
        /// The folder.
        #[arg(long)]
        dir: PathBuf,
        /// A DNS name or address that boxes use for this machine; may be given several times.
        #[arg(long = "name")]
        names: Vec<String>,
        /// Where browsers connect.
        #[arg(long, default_value = "127.0.0.1:0")]
        http: SocketAddr,
        /// Where boxes connect.
        #[arg(long, default_value = "127.0.0.1:0")]
        boxes: SocketAddr,
    },
    /// Bring centres and people in from a JSON document. Nothing is deleted, but a right missing from a
    /// listed person's grants ends.
    Import {
        /// The document; `-` is standard input.
        file: PathBuf,
        /// The settings.
        #[arg(long)]
        config: PathBuf,
    },
    /// Make the identity of a box.
    Provision {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
        /// The box.
        #[arg(long)]
        gateway: GatewayId,
        /// The box's folder.
        #[arg(long)]
        out: PathBuf,
        /// Where the box's MQTT server listens.
        #[arg(long, default_value = "127.0.0.1:0")]
        mqtt: SocketAddr,
        /// Where the box's status page listens.
        #[arg(long, default_value = "127.0.0.1:0")]
        status: SocketAddr,
        /// A private address or local host name by which devices and phones of the centre reach the box; may
        /// be given several times. With it the box gets a certificate for its centre's network.
        #[arg(long = "lan-name")]
        lan_names: Vec<LanName>,
    },
    /// Make a box's certificate for its centre's network anew, to be carried to the box.
    LanCertificate {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
        /// A private address or local host name by which devices and phones of the centre reach the box; may
        /// be given several times.
        #[arg(long = "lan-name", required = true)]
        lan_names: Vec<LanName>,
        /// The folder for lan.key, lan.pem and lan-ca.pem.
        #[arg(long)]
        out: PathBuf,
    },
    /// Serve until SIGTERM or SIGINT.
    Serve {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check the settings and the keys they name.
    CheckConfig {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check the journal of every centre, or of one; exit status 1 when something does not hold.
    Verify {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
        /// Only this centre.
        #[arg(long)]
        centre: Option<CentreId>,
    },
    /// Bring the database up to this program's version.
    Migrate {
        /// The settings.
        #[arg(long)]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    keep_files_private();
    log_to_stderr();
    // The only rustls provider in the program; a second installation would be a defect.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("antuo-cloud: a TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match run(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("antuo-cloud: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("ANTUO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr);
    if env("ANTUO_LOG_FORMAT").as_deref() == Some("json") {
        logs.json().init();
    } else {
        logs.init();
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init {
            dir,
            names,
            http,
            boxes,
        } => {
            let what = Init {
                dir,
                names,
                http,
                boxes,
            };
            let settings = init(&what, &Entropy::system(), env).await?;
            println!("{} is ready; keep a copy of its keys", settings.display());
        }
        Command::Import { file, config } => import_file(&file, &config).await?,
        Command::Provision {
            config,
            gateway,
            out,
            mqtt,
            status,
            lan_names,
        } => {
            let config = Config::read(&config, env)?;
            let what = Provision {
                gateway,
                out,
                mqtt,
                status,
                lan_names,
            };
            let db = setup::open(&config.database).await?;
            provision(&db, &config, &Clock::system(), &what).await?;
            db.close().await;
            println!("{} holds the identity of {gateway}", what.out.display());
        }
        Command::LanCertificate {
            config,
            lan_names,
            out,
        } => {
            let config = Config::read(&config, env)?;
            lan_certificate(&config, &Clock::system(), &out, &lan_names)?;
            let days = LAN_VALIDITY.as_secs() / 86_400;
            println!("{} holds a certificate for {days} days", out.display());
        }
        Command::Serve { config } => {
            let config = Config::read(&config, env)?;
            let end = told_to_end()?;
            app::serve(&config, Clock::system(), Entropy::system(), end).await?;
        }
        Command::CheckConfig { config } => {
            let config = Config::read(&config, env)?;
            Keys::read(&config.keys)?;
            println!("the settings are sound");
            print!("{}", config.http);
        }
        Command::Verify { config, centre } => return check_journals(&config, centre).await,
        Command::Migrate { config } => {
            let config = Config::read(&config, env)?;
            let db = setup::open(&config.database).await?;
            db.migrate().await?;
            db.close().await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn check_journals(config: &Path, centre: Option<CentreId>) -> anyhow::Result<ExitCode> {
    let config = Config::read(config, env)?;
    let db = setup::open(&config.database).await?;
    let verdicts = verify(&db, centre).await?;
    db.close().await;
    anyhow::ensure!(!verdicts.is_empty(), "there is no such centre");
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let holds = verdicts.iter().all(|verdict| verdict.broken.is_none());
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn import_file(file: &Path, config: &Path) -> anyhow::Result<()> {
    let config = Config::read(config, env)?;
    let bytes = read_document(file).with_context(|| format!("reading {}", file.display()))?;
    let keys = Keys::read(&config.keys)?;
    let db = setup::open(&config.database).await?;
    let (clock, entropy) = (Clock::system(), Entropy::system());
    let imported = import(&db, &keys, &clock, &entropy, &bytes).await?;
    db.close().await;
    for centre in imported {
        let rose = if centre.rose { " (risen)" } else { "" };
        println!(
            "centre {}: config version {}{rose}",
            centre.centre, centre.config_version
        );
    }
    Ok(())
}

fn read_document(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = DOCUMENT_MAX + 1;
    if file == Path::new("-") {
        stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(file)?
            .take(most)
            .read_to_end(&mut bytes)?;
    }
    anyhow::ensure!(
        u64::try_from(bytes.len())? < most,
        "the document is longer than {DOCUMENT_MAX} bytes"
    );
    Ok(bytes)
}

/// Resolves at SIGTERM or SIGINT.
fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
