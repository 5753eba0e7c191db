//! Brokers that the box listens to: their absence and their forgetting.

use super::*;

impl Rig {
    fn hop(&mut self, silent: Option<bool>, forgot: Option<bool>) -> Vec<String> {
        let point = "house/broker"
            .split_once('/')
            .map(|(device, point)| PointKey {
                device: device.parse().unwrap(),
                point: point.parse().unwrap(),
            });
        let stands = HopStands { silent, forgot };
        let events = self.step(|site, now, chance| site.hop(&point.unwrap(), stands, now, chance));
        for event in &events {
            assert_eq!(event.source.as_ref().unwrap().to_string(), "house/broker");
        }
        words(&events)
    }
}

#[test]
fn a_lost_broker_is_told_once_and_its_return_once_across_restarts() {
    let mut rig = Rig::new([]);
    let none: [&str; 0] = [];
    assert_eq!(rig.hop(None, None), none);
    assert_eq!(rig.hop(Some(true), None), ["bridge.offline raised"]);
    rig.restart();
    assert_eq!(rig.hop(None, None), none, "not known yet is no return");
    assert_eq!(rig.hop(Some(true), None), none);
    assert_eq!(rig.hop(Some(false), Some(false)), ["bridge.online cleared"]);
    assert_eq!(rig.hop(Some(false), Some(false)), none);
}

#[test]
fn a_broker_that_forgot_the_box_is_faulty_until_it_remembers() {
    let mut rig = Rig::new([]);
    assert_eq!(rig.hop(Some(false), Some(true)), ["device.fault raised"]);
    rig.restart();
    assert_eq!(rig.hop(None, None), [""; 0]);
    assert_eq!(rig.hop(Some(false), Some(false)), ["device.fault cleared"]);
}
