//! Devices we did not write speak to the box as they would to any broker.

use anyhow::Result;
use support::device::devices;
use support::receiver::Receiver;
use support::world::{Receivers, World, each};

#[tokio::test]
async fn a_python_client_is_acknowledged_and_every_press_is_shown() -> Result<()> {
    let receiver = Receiver::simulated(&[]).await?;
    let receivers = Receivers::all_at(receiver.address);
    let world = World::start(1, &receivers).await?;
    let gateway = world.gateways().remove(0);
    world.box_is_configured(&gateway).await?;
    let button = devices(&world.town, 0, "panic_button").remove(0);
    let payloads: Vec<String> = (0..8)
        .map(|n| format!(r#"{{"id":"py-{n}","kind":"alarm.pressed","state":"raised","at":{n}}}"#))
        .collect();
    button
        .publish_from_python(world.mqtt(&gateway)?, &payloads)
        .await?;

    let operator = world.log_in(&world.person_with("operator")?).await?;
    let case = operator
        .incident_that("all presses counted in one case", |i| {
            i["alarms"][0]["activations"] == 8
        })
        .await?;
    let all = operator.get("/api/operator/incidents?state=all").await?;
    assert_eq!(
        each(&all["incidents"]).count(),
        1,
        "one point pressed eight times is one case"
    );
    assert_eq!(case["alarms"][0]["device"], *button.device);
    Ok(())
}
