//! A small town: one cloud, some boxes, people who can log in.
//!
//! The town itself (centres, people, cards, secrets) is made by the simulator from a seed, in the
//! published import format.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::device::Door;
use crate::program::{Program, run};
pub use crate::session::Session;
use crate::{built, wait_for};

/// Where a town's receivers listen.
#[derive(Clone, Debug)]
pub struct Receivers {
    /// Police, first route.
    pub police: SocketAddr,
    /// Police, second route.
    pub police_backup: Option<SocketAddr>,
    /// Fire service.
    pub fire: SocketAddr,
    /// Monitoring centre.
    pub monitoring: SocketAddr,
}

impl Receivers {
    /// One receiver for every agency.
    #[must_use]
    pub const fn all_at(address: SocketAddr) -> Self {
        Self {
            police: address,
            police_backup: None,
            fire: address,
            monitoring: address,
        }
    }
}

/// A town and its running programs.
pub struct World {
    /// Everything this world writes.
    pub dir: tempfile::TempDir,
    /// The import file.
    pub town: Value,
    /// The cloud, while it runs.
    pub cloud: Option<Program>,
    /// The boxes, by gateway id, while they run.
    pub boxes: BTreeMap<String, Program>,
    http: SocketAddr,
    uplink: SocketAddr,
    client: reqwest::Client,
}

/// A port nobody uses now. Programs that must come back on the same port after a crash need one.
///
/// # Errors
/// When the machine has none.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl World {
    /// Makes a town of `centres` centres, each with one box, and starts everything.
    ///
    /// # Errors
    /// When a program fails, with its words.
    pub async fn start(centres: usize, receivers: &Receivers) -> Result<Self> {
        let mut world = Self::prepare(centres, receivers).await?;
        world.start_cloud().await?;
        for gateway in world.gateways() {
            world.start_box(&gateway).await?;
        }
        Ok(world)
    }

    /// The import file of a town; the same for the same number of centres, but for the addresses.
    ///
    /// # Errors
    /// When the simulator fails, with its words.
    pub async fn town(centres: usize, receivers: &Receivers) -> Result<Value> {
        let mut args = vec!["town".to_owned(), "--seed".into(), "7".into()];
        args.extend(["--centres".into(), centres.to_string()]);
        args.extend(["--police".into(), receivers.police.to_string()]);
        args.extend(["--fire".into(), receivers.fire.to_string()]);
        args.extend(["--monitoring".into(), receivers.monitoring.to_string()]);
        if let Some(backup) = receivers.police_backup {
            args.extend(["--police-backup".into(), backup.to_string()]);
        }
        Ok(serde_json::from_str(&run("antuo-sim", &args).await?)?)
    }

    /// Makes the town and its files, starts nothing.
    ///
    /// # Errors
    /// When a program fails, with its words.
    pub async fn prepare(centres: usize, receivers: &Receivers) -> Result<Self> {
        Self::lay_out_town(Self::town(centres, receivers).await?).await
    }

    /// Makes the files of a given town, starts nothing.
    ///
    /// # Errors
    /// When a program fails, with its words.
    pub async fn lay_out_town(town: Value) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("town.json");
        std::fs::write(&file, town.to_string())?;
        let world = Self {
            town,
            cloud: None,
            boxes: BTreeMap::new(),
            http: free_port()?,
            uplink: free_port()?,
            client: reqwest::Client::builder().build()?,
            dir,
        };
        world.lay_out(&file).await?;
        Ok(world)
    }

    async fn lay_out(&self, town: &Path) -> Result<()> {
        let cloud = self.cloud_dir();
        let text = |p: &Path| p.display().to_string();
        let (http, uplink) = (self.http.to_string(), self.uplink.to_string());
        let init = [
            "init",
            "--dir",
            &text(&cloud),
            "--http",
            &http,
            "--boxes",
            &uplink,
        ];
        run("antuo-cloud", &init).await?;
        let config = text(&self.cloud_config());
        run("antuo-cloud", &["import", &text(town), "--config", &config]).await?;
        for gateway in self.gateways() {
            let out = text(&self.box_dir(&gateway));
            let mqtt = free_port()?.to_string();
            let args = [
                "provision",
                "--config",
                &config,
                "--gateway",
                &gateway,
                "--out",
                &out,
                "--mqtt",
                &mqtt,
            ];
            run("antuo-cloud", &args).await?;
        }
        Ok(())
    }

    /// The cloud's folder.
    #[must_use]
    pub fn cloud_dir(&self) -> PathBuf {
        self.dir.path().join("cloud")
    }

    /// The cloud's settings.
    #[must_use]
    pub fn cloud_config(&self) -> PathBuf {
        self.cloud_dir().join("cloud.toml")
    }

    /// A box's folder.
    #[must_use]
    pub fn box_dir(&self, gateway: &str) -> PathBuf {
        self.dir.path().join(format!("box-{gateway}"))
    }

    /// A box's data folder, as its settings name it.
    ///
    /// # Errors
    /// When the settings cannot be read.
    pub fn box_data(&self, gateway: &str) -> Result<PathBuf> {
        let dir = self.box_dir(gateway);
        let text = std::fs::read_to_string(dir.join("gateway.toml"))?;
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("data_dir"))
            .context("gateway.toml names no data_dir")?;
        let named = line.trim_start_matches([' ', '=']).trim_matches('"');
        Ok(dir.join(named))
    }

    /// The town's box ids.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        each(&self.town["centres"])
            .flat_map(|centre| each(&centre["gateways"]))
            .filter_map(|gateway| gateway["id"].as_str().map(str::to_owned))
            .collect()
    }

    /// Starts the cloud and waits for its doors.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_cloud(&mut self) -> Result<()> {
        let config = self.cloud_config();
        let args = [OsStrings::from("serve"), "--config".into(), config.into()];
        let log = self.dir.path().join("cloud.log");
        let mut cloud = Program::start("antuo-cloud", &args, &log)?;
        let addresses = cloud.addresses(&self.cloud_dir()).await?;
        self.http = addresses["http"]
            .as_str()
            .context("no http address")?
            .parse()?;
        self.cloud = Some(cloud);
        Ok(())
    }

    /// Starts a box and waits for its doors.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_box(&mut self, gateway: &str) -> Result<()> {
        let mut command = Command::new(built("antuo-gateway")?);
        command
            .args(["run", "--config"])
            .arg(self.box_dir(gateway).join("gateway.toml"));
        self.start_box_as(gateway, command).await
    }

    /// Starts a box by a command of the test's own (under a tracer, through a relay).
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_box_as(&mut self, gateway: &str, mut command: Command) -> Result<()> {
        command.env("ANTUO_CLOUD_ADDRESS", self.uplink.to_string());
        self.doors_are_free(gateway).await?;
        let log = self.dir.path().join(format!("box-{gateway}.log"));
        let mut program = Program::spawn("antuo-gateway", command, &log)?;
        program.addresses(&self.box_data(gateway)?).await?;
        self.boxes.insert(gateway.to_owned(), program);
        Ok(())
    }

    /// Waits until nobody holds the ports that the box's settings name: while it was down, another program's
    /// outgoing connection may have been given one.
    async fn doors_are_free(&self, gateway: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.box_dir(gateway).join("gateway.toml"))?;
        let named: Vec<SocketAddr> = text
            .split('"')
            .filter_map(|word| word.parse().ok())
            .filter(|address: &SocketAddr| address.port() != 0 && *address != self.uplink)
            .collect();
        wait_for("the box's ports to be free", || async {
            let free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
            Ok(named.iter().all(free).then_some(()))
        })
        .await
    }

    /// The town's import file.
    #[must_use]
    pub fn town_file(&self) -> PathBuf {
        self.dir.path().join("town.json")
    }

    /// Where a running box listens for its devices.
    ///
    /// # Errors
    /// When the box is not up.
    pub fn mqtt(&self, gateway: &str) -> Result<SocketAddr> {
        let addresses = self.box_addresses(gateway)?;
        let first = addresses["mqtt"][0].as_str().context("no mqtt address")?;
        Ok(first.parse()?)
    }

    /// Gives a box that is down a door of every kind and a certificate for 127.0.0.1.
    ///
    /// # Errors
    /// When the certificate or the settings cannot be made.
    pub async fn open_every_door(&self, gateway: &str) -> Result<()> {
        let lan = self.box_dir(gateway).join("lan");
        let (config, out) = (self.cloud_config(), lan.display().to_string());
        let config = config.display().to_string();
        let args = ["lan-certificate", "--config", &config, "--out", &out];
        run(
            "antuo-cloud",
            &[&args[..], &["--lan-name", "127.0.0.1"]].concat(),
        )
        .await?;
        let file = self.box_dir(gateway).join("gateway.toml");
        let any = "[\"127.0.0.1:0\"]";
        let doors = format!(
            "[lan]\ncertificate = \"lan/lan.pem\"\nkey = \"lan/lan.key\"\n\n[mqtt]\ntls = {any}\n\
             websocket = {any}\nwebsocket_tls = {any}\n"
        );
        let settings = std::fs::read_to_string(&file)?.replacen("[mqtt]\n", &doors, 1);
        Ok(std::fs::write(&file, settings)?)
    }

    /// The CA that signed for a box with every door.
    #[must_use]
    pub fn lan_ca(&self, gateway: &str) -> PathBuf {
        self.box_dir(gateway).join("lan/lan-ca.pem")
    }

    /// The doors of a running box, one of each kind it has.
    ///
    /// # Errors
    /// When the box is not up.
    pub fn doors(&self, gateway: &str) -> Result<Vec<Door>> {
        let addresses = self.box_addresses(gateway)?;
        let doors = [
            ("mqtt", "mqtt"),
            ("mqtts", "mqtt_tls"),
            ("ws", "mqtt_websocket"),
            ("wss", "mqtt_websocket_tls"),
        ];
        let first = |(scheme, list): (&'static str, &str)| {
            let address = addresses[list][0].as_str()?.parse().ok()?;
            Some(Door { scheme, address })
        };
        Ok(doors.into_iter().filter_map(first).collect())
    }

    /// What a running box says of itself.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn box_metrics(&self, gateway: &str) -> Result<String> {
        let addresses = self.box_addresses(gateway)?;
        let status = addresses["status"].as_str().context("no status address")?;
        let url = format!("http://{status}/metrics");
        Ok(self.client.get(url).send().await?.text().await?)
    }

    /// How a running box says it is.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn box_status(&self, gateway: &str) -> Result<Value> {
        let addresses = self.box_addresses(gateway)?;
        let status = addresses["status"].as_str().context("no status address")?;
        let url = format!("http://{status}/");
        Ok(self.client.get(url).send().await?.json().await?)
    }

    fn box_addresses(&self, gateway: &str) -> Result<Value> {
        let file = self.box_data(gateway)?.join("addresses.json");
        Ok(serde_json::from_str(&std::fs::read_to_string(file)?)?)
    }

    /// Waits until a box runs the centre's Config (devices can log in then).
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn box_is_configured(&self, gateway: &str) -> Result<()> {
        let admin = self.log_in(&self.person_with("admin")?).await?;
        wait_for("the box to run its Config", || async {
            let all = admin.get("/api/admin/gateways").await?;
            let applied = each(&all["gateways"])
                .find(|g| g["id"] == gateway)
                .and_then(|g| g["config_version_applied"].as_u64());
            Ok(applied.filter(|v| *v > 0))
        })
        .await?;
        Ok(())
    }

    /// The first person of the town with a role.
    ///
    /// # Errors
    /// When the town has none.
    pub fn person_with(&self, role: &str) -> Result<Value> {
        self.people_with(role)
            .into_iter()
            .next()
            .with_context(|| format!("the town has no {role}"))
    }

    /// Everybody of the town with a role.
    #[must_use]
    pub fn people_with(&self, role: &str) -> Vec<Value> {
        each(&self.town["people"])
            .filter(|p| each(&p["grants"]).any(|g| g["role"] == role))
            .filter(|p| p["username"].is_string())
            .cloned()
            .collect()
    }

    /// Logs a person of the town in.
    ///
    /// # Errors
    /// When the cloud refuses.
    pub async fn log_in(&self, person: &Value) -> Result<Session> {
        let body = json!({"username": person["username"], "password": person["password"]});
        let session = Session {
            client: self.client.clone(),
            base: format!("http://{}", self.http),
            token: String::new(),
        };
        let answer = session.post("/api/session", &body).await?;
        let token = answer["token"].as_str().context("no token")?.to_owned();
        Ok(Session { token, ..session })
    }

    /// The cloud's browser door.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The cloud's door for boxes.
    #[must_use]
    pub fn uplink(&self) -> SocketAddr {
        self.uplink
    }
}

type OsStrings = std::ffi::OsString;

/// The members of a JSON array; nothing for anything else.
pub fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
