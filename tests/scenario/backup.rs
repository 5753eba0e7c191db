//! A receiver that takes the bytes and answers nothing: the second route takes over.

use anyhow::Result;
use support::receiver::Receiver;
use support::world::{Receivers, World, each};

use crate::{press, says};

#[tokio::test]
async fn the_backup_route_takes_over_from_a_mute_receiver() -> Result<()> {
    let mute = Receiver::simulated(&["--faults", "mute"]).await?;
    let backup = Receiver::simulated(&[]).await?;
    let other = Receiver::simulated(&[]).await?;
    let receivers = Receivers {
        police: mute.address,
        police_backup: Some(backup.address),
        fire: other.address,
        monitoring: other.address,
    };
    let world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let button = support::device::devices(&world.town, 0, "panic_button").remove(0);
    button.publish(world.mqtt(&gateway)?, &press("b-1")).await?;

    let first = mute
        .hears("the order at the mute receiver", |l| says(l, "PA"))
        .await?;
    let second = backup
        .hears("the order at the backup", |l| says(l, "PA"))
        .await?;
    for field in ["account", "number", "data"] {
        assert_eq!(
            first[field], second[field],
            "the equal number marks a possible repeat"
        );
    }
    let operator = world.log_in(&world.person_with("operator")?).await?;
    let case = operator
        .incident_that("the order to stand as received", |i| {
            each(&i["dispatches"]).any(|d| d["state"] == "received")
        })
        .await?;
    let order = each(&case["dispatches"])
        .find(|d| d["state"] == "received")
        .unwrap();
    assert_eq!(order["possible_repeat"], true);
    assert!(
        order["attempts"].as_i64().is_some_and(|n| n >= 2),
        "{order}"
    );
    Ok(())
}
