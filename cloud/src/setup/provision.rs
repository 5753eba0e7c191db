//! `antuo-cloud provision`: the identity of a box, made here and carried to it. `antuo-cloud lan-certificate`:
//! its certificate for its centre's network, made anew.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ambient::Clock;
use domain::id::GatewayId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use uuid::Uuid;

use crate::config::{Addresses, Config};
use crate::db::{Db, DbError, Urgency};
use crate::keys::{
    Authority, Issued, KeyError, LanAuthority, LanName, SigningKey, first_name_of, make_folder,
    write_new,
};
use crate::process::is_ours;
use crate::sql;

/// The box's settings in its folder.
const SETTINGS: &str = "gateway.toml";

/// What to make.
pub struct Provision {
    /// The box.
    pub gateway: GatewayId,
    /// Its folder; made if absent.
    pub out: PathBuf,
    /// Where its MQTT server listens.
    pub mqtt: SocketAddr,
    /// Where its status page listens.
    pub status: SocketAddr,
    /// What devices and phones of its centre call it; empty: it speaks no TLS to them.
    pub lan_names: Vec<LanName>,
}

/// Why no identity was made.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// No such box.
    #[error("gateway {0} is not known: import it with its centre first")]
    UnknownGateway(GatewayId),
    /// The folder has an identity.
    #[error("{0} exists already: a box keeps its key; give another folder for a new one")]
    Exists(PathBuf),
    /// The box's key would lie where others can take it or have put something.
    #[error("{0} is there already and not yours alone: give a new folder, or chmod 700 your own")]
    NotPrivate(PathBuf),
    /// Keys or files cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The listener's certificate names nothing.
    #[error("{0} names no host: boxes could not check whom they speak to")]
    NoName(PathBuf),
    /// The store failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Makes a key pair and certificate, writes them for the box, and lets the key in. Keys it had
/// before stay good until they are revoked.
///
/// # Errors
/// When the box is unknown, has an identity there, or a file cannot be made.
pub async fn provision(
    db: &Db,
    config: &Config,
    clock: &Clock,
    what: &Provision,
) -> Result<(), ProvisionError> {
    let identity = what.out.join("identity");
    check_out(&what.out, &identity)?;
    let authority = Authority::read(&config.keys.ca, &config.keys.ca_key)?;
    let signing = SigningKey::read(&config.keys.config_signing)?;
    let issued = authority
        .issue_gateway(what.gateway)
        .map_err(KeyError::from)?;
    let server_name = server_name(&config.keys.boxes_certificate)?;
    let mut write = db.write(Urgency::Other).await?;
    let tx = write.tx();
    let row = sql!(
        tx,
        fetch_optional as (Uuid,),
        "select centre from gateway where id = $1",
        what.gateway.0
    )
    .map_err(DbError::from)?;
    let (centre,) = row.ok_or(ProvisionError::UnknownGateway(what.gateway))?;
    sql!(
        tx,
        execute,
        "update gateway_key set state = 'previous' where gateway = $1 and state = 'active'",
        what.gateway.0
    )
    .map_err(DbError::from)?;
    sql!(
        tx,
        execute,
        "insert into gateway_key (fingerprint, centre, gateway, state, issued_at)
         values ($1, $2, $3, 'active', $4)",
        issued.fingerprint.0.to_vec(),
        centre,
        what.gateway.0,
        clock.now().micros()
    )
    .map_err(DbError::from)?;
    make_folder(&what.out)?;
    // Somebody may have been faster than we.
    check_private(&what.out)?;
    write_identity(&identity, config, &issued, &signing)?;
    if !what.lan_names.is_empty() {
        write_lan(&identity, config, clock, &what.lan_names)?;
    }
    write_settings(what, config, &server_name)?;
    write.commit().await?;
    Ok(())
}

/// Makes a key and certificate for a box's network and writes them into a folder that is new, or ours alone,
/// to be carried to the box: for one that had none, for new names, and before the old one runs out.
///
/// # Errors
/// When a file is there already, or cannot be made.
pub fn lan_certificate(
    config: &Config,
    clock: &Clock,
    out: &Path,
    names: &[LanName],
) -> Result<(), ProvisionError> {
    make_folder(out)?;
    check_private(out)?;
    write_lan(out, config, clock, names)
}

/// The folder is new, or ours alone and without a box.
fn check_out(out: &Path, identity: &Path) -> Result<(), ProvisionError> {
    if fs::symlink_metadata(out).is_err() {
        return Ok(());
    }
    check_private(out)?;
    let settings = out.join(SETTINGS);
    match [identity, &settings].into_iter().find(|path| path.exists()) {
        Some(path) => Err(ProvisionError::Exists(path.to_owned())),
        None => Ok(()),
    }
}

/// A real folder, since nobody knows where a link will lead by the time we write.
fn check_private(out: &Path) -> Result<(), ProvisionError> {
    let there = fs::symlink_metadata(out).map_err(|source| KeyError::Read {
        path: out.to_owned(),
        source,
    })?;
    if there.is_dir() && there.mode() & 0o077 == 0 && is_ours(there.uid()) {
        Ok(())
    } else {
        Err(ProvisionError::NotPrivate(out.to_owned()))
    }
}

fn server_name(certificate: &Path) -> Result<String, ProvisionError> {
    let certificate_der =
        CertificateDer::from_pem_file(certificate).map_err(|_| KeyError::Unreadable {
            path: certificate.to_owned(),
            wanted: "a certificate (PEM)",
        })?;
    let name = first_name_of(&certificate_der);
    name.ok_or_else(|| ProvisionError::NoName(certificate.to_owned()))
}

fn write_identity(
    identity: &Path,
    config: &Config,
    issued: &Issued,
    signing: &SigningKey,
) -> Result<(), ProvisionError> {
    let ca = fs::read(&config.keys.ca).map_err(|source| KeyError::Read {
        path: config.keys.ca.clone(),
        source,
    })?;
    make_folder(identity)?;
    let public = signing.public_text() + "\n";
    for (name, bytes) in [
        ("box.key", issued.key_pem.as_bytes()),
        ("box.pem", issued.certificate_pem.as_bytes()),
        ("ca.pem", &ca),
        ("config-signing.pub", public.as_bytes()),
    ] {
        write_new(&identity.join(name), bytes)?;
    }
    Ok(())
}

fn write_lan(
    folder: &Path,
    config: &Config,
    clock: &Clock,
    names: &[LanName],
) -> Result<(), ProvisionError> {
    let authority = LanAuthority::read_or_make(&config.keys)?;
    let issued = authority
        .issue(names, clock.now())
        .map_err(KeyError::from)?;
    let ca = fs::read(&config.keys.lan_ca).map_err(|source| KeyError::Read {
        path: config.keys.lan_ca.clone(),
        source,
    })?;
    for (name, bytes) in [
        ("lan.key", issued.key_pem.as_bytes()),
        ("lan.pem", issued.certificate_pem.as_bytes()),
        ("lan-ca.pem", &ca),
    ] {
        write_new(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// Settings of the box.
fn write_settings(
    what: &Provision,
    config: &Config,
    server_name: &str,
) -> Result<(), ProvisionError> {
    let path = what.out.join(SETTINGS);
    // A port chosen by the system is known only while `serve` runs.
    let running = Addresses::read(&config.dir).map(|addresses| addresses.boxes);
    let lan = if what.lan_names.is_empty() {
        ""
    } else {
        "[lan]\ncertificate = \"identity/lan.pem\"\nkey = \"identity/lan.key\"\n\n"
    };
    let text = format!(
        r#"data_dir = "."

[cloud]
address = "{cloud}"
server_name = "{server_name}"
identity = "identity"

{lan}[mqtt]
listen = ["{mqtt}"]

[status]
listen = "{status}"
"#,
        cloud = running.unwrap_or(config.boxes),
        mqtt = what.mqtt,
        status = what.status,
    );
    Ok(write_new(&path, text.as_bytes())?)
}
