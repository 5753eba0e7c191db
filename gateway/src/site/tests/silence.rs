//! Supervision of devices and bridges.

use super::*;

fn watched(device: &str, role: Role, interval_s: u32) -> Enrolment {
    Enrolment {
        interval_s: Some(interval_s),
        ..zigbee(device, role)
    }
}

#[test]
fn silence_is_told_with_its_interval_and_so_is_the_return() {
    let mut rig = Rig::new([watched("s", Role::Smoke, 60)]);
    rig.advance(secs(30));
    assert_eq!(rig.send("zigbee2mqtt/s", "{\"smoke\":false}"), []);
    assert_eq!(rig.wait(secs(59)), []);
    let silent = rig.wait(secs(1));
    assert_eq!(words(&silent), ["device.offline raised"]);
    assert_eq!(silent[0].detail, Detail::Silent { interval_s: 60 });
    assert_eq!(rig.wait(secs(600)), []);
    rig.restart();
    assert_eq!(rig.wait(secs(600)), [], "told before the restart");
    let back = rig.send("zigbee2mqtt/s", "{\"smoke\":false}");
    assert_eq!(words(&back), ["device.online cleared"]);
    assert_eq!(words(&rig.wait(secs(60))), ["device.offline raised"]);
}

#[test]
fn what_others_say_about_a_device_does_not_prove_it_alive() {
    let mut rig = Rig::new([watched("s", Role::Smoke, 60)]);
    rig.advance(secs(59));
    rig.send("zigbee2mqtt/s/availability", "online");
    rig.send("zigbee2mqtt/s/set", "{\"state\":\"\"}");
    rig.replay("zigbee2mqtt/s", "{\"smoke\":false}");
    assert_eq!(words(&rig.wait(secs(1))), ["device.offline raised"]);
}

#[test]
fn garbage_is_still_a_sign_of_life() {
    let mut rig = Rig::new([watched("s", Role::Smoke, 60)]);
    rig.advance(secs(59));
    assert_eq!(
        words(&rig.send("zigbee2mqtt/s", "{")),
        ["ingest.rejected raised"]
    );
    assert_eq!(rig.wait(secs(59)), []);
}

#[test]
fn a_bridge_takes_its_devices_with_it_and_brings_them_back() {
    let mut bridge = zigbee("z", Role::Bridge);
    bridge.address = "zigbee2mqtt".into();
    bridge.interval_s = Some(60);
    let mut rig = Rig::new([bridge, zigbee("s", Role::Smoke), zigbee("d", Role::Door)]);
    let gone = rig.wait(secs(60));
    assert_eq!(
        words(&gone),
        [
            "bridge.offline raised",
            "device.offline raised",
            "device.offline raised"
        ]
    );
    let back = rig.send("zigbee2mqtt/nobody", "{}");
    assert_eq!(
        words(&back),
        [
            "bridge.online cleared",
            "device.online cleared",
            "device.online cleared",
            "ingest.unmapped raised"
        ]
    );
}

#[test]
fn the_cache_of_a_starting_bridge_raises_but_clears_no_alarm() {
    let mut rig = Rig::new([zigbee("s", Role::Smoke), zigbee("t", Role::Smoke)]);
    rig.send("zigbee2mqtt/s", "{\"smoke\":true}");
    rig.send("zigbee2mqtt/bridge/state", "offline");
    rig.advance(secs(60));
    rig.send("zigbee2mqtt/bridge/state", "online");
    rig.advance(REPLAY_FOR - secs(1));
    assert_eq!(rig.send("zigbee2mqtt/s", "{\"smoke\":false}"), []);
    let other = rig.send("zigbee2mqtt/t", "{\"smoke\":true}");
    assert_eq!(words(&other), ["fire.smoke.alarm raised"]);
    rig.advance(secs(1));
    let gone = rig.send("zigbee2mqtt/s", "{\"smoke\":false}");
    assert_eq!(words(&gone), ["fire.smoke.alarm cleared"]);
}

#[test]
fn a_device_that_is_silent_and_says_so_is_offline_once() {
    let mut rig = Rig::new([watched("s", Role::Smoke, 60)]);
    let said = rig.send("zigbee2mqtt/s/availability", "offline");
    assert_eq!(words(&said), ["device.offline raised"]);
    assert_eq!(rig.wait(secs(60)), []);
    assert_eq!(rig.send("zigbee2mqtt/s", "{\"smoke\":false}"), []);
    let back = rig.send("zigbee2mqtt/s/availability", "online");
    assert_eq!(words(&back), ["device.online cleared"]);
}

#[test]
fn the_cache_of_a_starting_bridge_proves_no_device_alive() {
    let mut rig = Rig::new([watched("s", Role::Smoke, 60)]);
    rig.advance(secs(55));
    rig.send("zigbee2mqtt/bridge/state", "online");
    rig.send("zigbee2mqtt/s", "{\"smoke\":false}");
    assert_eq!(words(&rig.wait(secs(5))), ["device.offline raised"]);
}
