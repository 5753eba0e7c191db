//! Starts everything a demo needs, in order: receivers and town, cloud, boxes, devices, streams.

use super::folder::{box_dir, data_dir, device_ledger, receiver_ledger, text, town_file};
use super::{CENTRES, Demo, DemoError};
use crate::addresses::{self, BoxAddresses, Broker, CloudAddresses};
use crate::api::Api;
use crate::clock::Clock;
use crate::desk::Desk;
use crate::device::Ids;
use crate::devices::Devices;
use crate::feed::Feed;
use crate::ledger::DeviceLedger;
use crate::make_town::{Addresses, make};
use crate::process::{Household, Program};
use crate::receiver::DcReceiver;
use crate::relay::Relay;
use crate::site::Site;
use crate::stage::{House, Stage};
use crate::town::{Agency, Centre, Town};
use crate::view::Gateways;
use crate::watch::{Lookout, narrate};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a process to write its addresses.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Longest wait until every device is logged in and every parent's stream is open.
const STAGE_SET_WITHIN: Duration = Duration::from_secs(60);

/// The three receivers, listening, and the town that is to call them.
pub(super) async fn found_town(
    demo: &Demo,
    seed: u64,
    clock: Clock,
) -> Result<(Town, [DcReceiver; 3]), DemoError> {
    let open = |agency: Agency| {
        DcReceiver::open(
            agency.word(),
            Some(&receiver_ledger(demo, agency)),
            clock,
            false,
        )
    };
    let receivers = [
        open(Agency::Police)?,
        open(Agency::Fire)?,
        open(Agency::Monitoring)?,
    ];
    let mut at = Vec::new();
    for receiver in &receivers {
        let main = receiver
            .listen("127.0.0.1:0")
            .await
            .map_err(DemoError::Listen)?;
        let backup = receiver
            .listen_as_backup("127.0.0.1:0")
            .await
            .map_err(DemoError::Listen)?;
        at.push((main.to_string(), Some(backup.to_string())));
    }
    let [police, fire, monitoring] =
        [0, 1, 2].map(|index| at.get(index).cloned().unwrap_or_default());
    let town = make(
        seed,
        CENTRES,
        &Addresses {
            police,
            fire,
            monitoring,
        },
    );
    let path = town_file(demo);
    let text = serde_json::to_vec_pretty(&town).map_err(std::io::Error::other);
    let written = text.and_then(|text| std::fs::write(&path, text));
    written.map_err(|source| DemoError::Data { path, source })?;
    Ok((town, receivers))
}

pub(super) async fn start_cloud(
    demo: &Demo,
    household: &Household,
    town: &Town,
) -> Result<CloudAddresses, DemoError> {
    let dir = demo.data.join("cloud");
    let config = dir.join("cloud.toml");
    let command = |name: &str, args: &[&str]| Program {
        name: name.to_owned(),
        program: demo.bin_dir.join("antuo-cloud"),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        envs: Vec::new(),
    };
    let (dir_text, config_text, town_text) = (text(&dir), text(&config), text(&town_file(demo)));
    household
        .run(&command("cloud-init", &["init", "--dir", &dir_text]))
        .await?;
    household
        .run(&command(
            "cloud-import",
            &["import", &town_text, "--config", &config_text],
        ))
        .await?;
    for (index, gateway) in town
        .centres
        .iter()
        .flat_map(|centre| &centre.gateways)
        .enumerate()
    {
        let (id, out) = (gateway.id.to_string(), text(&box_dir(demo, index)));
        let args = [
            "provision",
            "--config",
            &config_text,
            "--gateway",
            &id,
            "--out",
            &out,
        ];
        household.run(&command("cloud-provision", &args)).await?;
    }
    let written = data_dir(&config).join("addresses.json");
    let serve = command("cloud", &["serve", "--config", &config_text]);
    Ok(household
        .start(&serve, READY_WITHIN, || addresses::read(&written))
        .await?)
}

/// What stands once everything runs.
pub(super) struct Set {
    pub(super) stage: Arc<Stage>,
    pub(super) ledger: DeviceLedger,
    pub(super) api: Api,
}

impl Set {
    pub(super) async fn build(
        demo: &Demo,
        household: &Household,
        town: Town,
        [police, fire, monitoring]: [DcReceiver; 3],
        (cloud, clock): (&CloudAddresses, Clock),
    ) -> Result<Set, DemoError> {
        let ids = Ids::of_run(clock.now(), std::process::id());
        let ledger = DeviceLedger::open(&device_ledger(demo), ids.run())?;
        let relay = Relay::to(cloud.boxes.clone())
            .await
            .map_err(DemoError::Listen)?;
        let mut houses = Vec::new();
        for (index, centre) in town.centres.iter().enumerate() {
            let behind_relay = index + 1 == town.centres.len();
            let reached_at = if behind_relay {
                relay.address().to_string()
            } else {
                cloud.boxes.clone()
            };
            let broker = start_box(demo, household, index, reached_at).await?;
            houses.push(house(&town, centre, &broker, (&ledger, &ids, clock)));
        }
        let api = Api::at(&format!("http://{}", cloud.http))?;
        until_connected(&api, &town, &houses).await?;
        let desk = Desk::open(&api, &town).await?;
        let lookout = Lookout {
            clock,
            ledger: ledger.clone(),
            seen: Feed::default(),
        };
        watch(&lookout, &api, &town, &houses).await?;
        narrate(desk.first().clone(), clock);
        let seen = lookout.seen;
        let stage = Stage {
            clock,
            town,
            ids,
            houses,
            police,
            fire,
            monitoring,
            seen,
            desk,
            relay,
        };
        Ok(Set {
            stage: Arc::new(stage),
            ledger,
            api,
        })
    }
}

async fn start_box(
    demo: &Demo,
    household: &Household,
    index: usize,
    cloud: String,
) -> Result<Broker, DemoError> {
    let config = box_dir(demo, index).join("gateway.toml");
    let run = Program {
        name: format!("box-{}", index + 1),
        program: demo.bin_dir.join("antuo-gateway"),
        args: vec!["run".to_owned(), "--config".to_owned(), text(&config)],
        envs: vec![("ANTUO_CLOUD_ADDRESS".to_owned(), cloud)],
    };
    let written = data_dir(&config).join("addresses.json");
    household
        .start(&run, READY_WITHIN, || {
            addresses::read::<BoxAddresses>(&written)
        })
        .await?;
    Ok(Broker::WrittenIn(written))
}

fn house(
    town: &Town,
    centre: &Centre,
    broker: &Broker,
    books: (&DeviceLedger, &Ids, Clock),
) -> House {
    let site = Site::of(town, centre, None);
    let devices = Devices::start((centre, &site, None), broker, books);
    House::new(site, devices)
}

async fn until_connected(api: &Api, town: &Town, houses: &[House]) -> Result<(), DemoError> {
    let all = async {
        for house in houses {
            house.devices.until_connected().await;
        }
    };
    if tokio::time::timeout(STAGE_SET_WITHIN, all).await.is_ok() {
        return Ok(());
    }
    let devices = houses.iter().flat_map(|house| {
        house
            .devices
            .unconnected()
            .into_iter()
            .map(|device| format!("{} at {}", device, house.site.name))
    });
    let devices = devices.collect();
    Err(DemoError::NotConnected {
        waited: STAGE_SET_WITHIN,
        devices,
        boxes: boxes(api, town).await,
    })
}

/// How the cloud sees its boxes, in words.
async fn boxes(api: &Api, town: &Town) -> String {
    let Some(admin) = town.admin() else {
        return "no administrator to ask".to_owned();
    };
    let asked = async {
        api.log_in(admin)
            .await?
            .get::<Gateways>("/api/admin/gateways")
            .await
    };
    match asked.await {
        Err(error) => error.to_string(),
        Ok(seen) => {
            let word = |connected| {
                if connected {
                    "connected"
                } else {
                    "not connected"
                }
            };
            let boxes = seen
                .gateways
                .iter()
                .map(|gateway| format!("{} {}", gateway.name, word(gateway.connected)));
            boxes.collect::<Vec<_>>().join(", ")
        }
    }
}

async fn watch(
    lookout: &Lookout,
    api: &Api,
    town: &Town,
    houses: &[House],
) -> Result<(), DemoError> {
    let pupils = houses.iter().flat_map(|house| &house.site.pupils);
    let children: Vec<uuid::Uuid> = pupils.map(|pupil| pupil.child).collect();
    lookout.watch(api, town, &children).await?;
    let first_views = async {
        for child in &children {
            lookout
                .seen
                .find(STAGE_SET_WITHIN, |seen| {
                    (seen.child == *child).then_some(())
                })
                .await;
        }
    };
    let _late = tokio::time::timeout(STAGE_SET_WITHIN, first_views).await;
    let dark = children
        .iter()
        .filter(|child| lookout.seen.count(|seen| seen.child == **child) == 0)
        .count();
    if dark == 0 {
        Ok(())
    } else {
        Err(DemoError::NoStream {
            waited: STAGE_SET_WITHIN,
            children: dark,
        })
    }
}
