//! The program's `decode`, as whoever pipes lines into it meets it: what goes where, and how it ends.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn decode(input: &[u8]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_antuo-gateway"))
        .arg("decode")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(input).unwrap();
    program.wait_with_output().unwrap()
}

#[test]
fn a_line_that_is_no_case_costs_no_other() {
    let output = decode(b"{\"id\":1}\nno case\n\n{\"id\":\"\xff\"}\r\n{\"id\":2}");
    let out = String::from_utf8(output.stdout).unwrap();
    let expected = "{\"id\":1,\"events\":[]}\n{\"id\":2,\"events\":[]}\n";
    assert_eq!(out, expected);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("line 2: not a case"), "{told}");
    assert!(told.contains("line 4: not UTF-8"), "{told}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn cases_alone_end_well() {
    let output = decode(b"{\"id\":1}\n");
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(decode(b"").status.success());
}
