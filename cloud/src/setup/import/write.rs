//! The import's statements. Checks what the document refers to as it goes; hides what must not rest.

mod people;

use ambient::Entropy;
use domain::digest::{CredentialKey, Sha256};
use domain::id::CentreId;
use domain::time::Timestamp;
use uuid::Uuid;

use super::ImportError;
use super::cursor::Wrong;
use super::document::{Centre, Child, Document, Receiver};
use super::site::{Card, Door, Point};
use crate::centre::ChildNames;
use crate::db::{DbError, Tx};
use crate::keys::{Keys, Sealed};
use crate::sql;

/// One import at work in its transaction.
pub struct Writer<'a> {
    pub tx: &'a mut Tx,
    pub keys: &'a Keys,
    pub entropy: &'a Entropy,
    pub now: Timestamp,
}

fn wrong(path: &str, field: &str, wanted: &str) -> ImportError {
    ImportError::Wrong(Wrong {
        path: format!("{path}.{field}"),
        wanted: wanted.to_owned(),
    })
}

impl Writer<'_> {
    pub async fn write(
        &mut self,
        document: &Document,
        hashes: &[Option<String>],
        pins: &[Option<String>],
    ) -> Result<(), ImportError> {
        self.deployment(document).await?;
        for centre in &document.centres {
            self.centre(centre).await?;
        }
        for (person, hash) in document.people.iter().zip(hashes) {
            self.person(person, hash.as_deref()).await?;
        }
        for (person, pin) in document.people.iter().zip(pins) {
            self.box_login(person, pin.as_deref()).await?;
        }
        // Cards may be held by people of this document, grants by children of it.
        for centre in &document.centres {
            self.cards(centre).await?;
        }
        for person in &document.people {
            self.grants(person).await?;
        }
        Ok(())
    }

    async fn there(&mut self, query: &'static str, id: Uuid) -> Result<bool, ImportError> {
        let row = sql!(self.tx, fetch_optional as (Uuid,), query, id)?;
        Ok(row.is_some())
    }

    async fn division(&mut self, path: &str, code: &str) -> Result<(), ImportError> {
        let row = sql!(
            self.tx,
            fetch_optional as (String,),
            "select code from division where code = $1",
            code
        )?;
        let wanted = "must be a division, in $.divisions or imported before";
        row.map(|_| ())
            .ok_or_else(|| wrong(path, "division", wanted))
    }

    async fn deployment(&mut self, document: &Document) -> Result<(), ImportError> {
        for division in &document.divisions {
            sql!(
                self.tx,
                execute,
                "insert into division (code, name) values ($1, $2)
                 on conflict (code) do update set name = excluded.name",
                division.code.as_str(),
                division.name.as_str()
            )?;
        }
        for room in &document.watch_rooms {
            sql!(
                self.tx,
                execute,
                "insert into watch_room (id, name) values ($1, $2)
                 on conflict (id) do update set name = excluded.name",
                room.id.0,
                room.name.as_str()
            )?;
        }
        for receiver in &document.receivers {
            self.receiver(receiver).await?;
        }
        Ok(())
    }

    async fn receiver(&mut self, receiver: &Receiver) -> Result<(), ImportError> {
        self.division(&receiver.path, &receiver.division).await?;
        sql!(
            self.tx,
            execute,
            "insert into receiver (id, division, agency, name, protocol, settings)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update set division = excluded.division,
                 agency = excluded.agency, name = excluded.name,
                 protocol = excluded.protocol, settings = excluded.settings",
            receiver.id.0,
            receiver.division.as_str(),
            receiver.agency,
            receiver.name.as_str(),
            receiver.protocol,
            receiver.settings.as_str()
        )?;
        Ok(())
    }

    async fn centre(&mut self, centre: &Centre) -> Result<(), ImportError> {
        self.division(&centre.path, &centre.division).await?;
        let room = centre.watch_room.0;
        if !self
            .there("select id from watch_room where id = $1", room)
            .await?
        {
            let wanted = "must be a watch room, in $.watch_rooms or imported before";
            return Err(wrong(&centre.path, "watch_room", wanted));
        }
        self.centre_row(centre).await?;
        for account in &centre.accounts {
            let receiver = account.receiver.0;
            if !self
                .there("select id from receiver where id = $1", receiver)
                .await?
            {
                let wanted = "must be a receiver, in $.receivers or imported before";
                return Err(wrong(&account.path, "receiver", wanted));
            }
            sql!(
                self.tx,
                execute,
                "insert into receiver_account (centre, receiver, account) values ($1, $2, $3)
                 on conflict (centre, receiver) do update set account = excluded.account",
                centre.id.0,
                receiver,
                account.account.as_str()
            )?;
        }
        for zone in &centre.zones {
            sql!(
                self.tx,
                execute,
                "insert into zone (centre, id, name) values ($1, $2, $3)
                 on conflict (centre, id) do update set name = excluded.name",
                centre.id.0,
                zone.id.as_str(),
                zone.name.as_str()
            )?;
        }
        self.gateways(centre).await?;
        for door in &centre.doors {
            self.door(centre.id, door).await?;
        }
        for point in &centre.points {
            self.point(centre.id, point).await?;
        }
        for child in &centre.children {
            self.child(centre.id, child).await?;
        }
        Ok(())
    }

    async fn centre_row(&mut self, centre: &Centre) -> Result<(), ImportError> {
        let card_key = self.entropy.bytes::<32>()?;
        let of = Sealed::CardKey(centre.id);
        let card_key = self.keys.sealing.seal(self.entropy, of, &card_key)?;
        sql!(
            self.tx,
            execute,
            "insert into centre (id, division, watch_room, name, short_name, address, filing_no,
                 time_zone, fire_needs_verification, credential_key, config_version)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1)
             on conflict (id) do update set division = excluded.division,
                 watch_room = excluded.watch_room, name = excluded.name,
                 short_name = excluded.short_name, address = excluded.address,
                 filing_no = excluded.filing_no, time_zone = excluded.time_zone,
                 fire_needs_verification = excluded.fire_needs_verification",
            centre.id.0,
            centre.division.as_str(),
            centre.watch_room.0,
            centre.name.as_str(),
            centre.short_name.as_str(),
            centre.address.as_str(),
            centre.filing_no.as_str(),
            centre.time_zone.as_str(),
            centre.fire_needs_verification,
            card_key.clone()
        )?;
        Ok(())
    }

    async fn gateways(&mut self, centre: &Centre) -> Result<(), ImportError> {
        for gateway in &centre.gateways {
            let done = sql!(
                self.tx,
                execute,
                "insert into gateway (centre, id, name) values ($1, $2, $3)
                 on conflict (id) do update set name = excluded.name
                 where gateway.centre = excluded.centre",
                centre.id.0,
                gateway.id.0,
                gateway.name.as_str()
            )?;
            if done == 0 {
                let wanted = "must be a new id: this box belongs to another centre";
                return Err(wrong(&gateway.path, "id", wanted));
            }
        }
        Ok(())
    }

    /// That the box is one of the centre's.
    async fn own_gateway(
        &mut self,
        centre: CentreId,
        gateway: Uuid,
        path: &str,
    ) -> Result<(), ImportError> {
        let row = sql!(
            self.tx,
            fetch_optional as (Uuid,),
            "select id from gateway where centre = $1 and id = $2",
            centre.0,
            gateway
        )?;
        let wanted = "must be a gateway of this centre, in its list or imported before";
        row.map(|_| ())
            .ok_or_else(|| wrong(path, "gateway", wanted))
    }

    async fn door(&mut self, centre: CentreId, door: &Door) -> Result<(), ImportError> {
        self.own_gateway(centre, door.gateway.0, &door.path).await?;
        let publish = serde_json::to_string(&door.publish)?;
        sql!(
            self.tx,
            execute,
            "insert into mqtt_credential (centre, gateway, username, secret_sha256, publish)
             values ($1, $2, $3, $4, $5)
             on conflict (centre, gateway, username) do update set
                 secret_sha256 = excluded.secret_sha256, publish = excluded.publish",
            centre.0,
            door.gateway.0,
            door.username.as_str(),
            Sha256::of(&[door.secret.as_bytes()]).to_string(),
            publish.as_str()
        )?;
        Ok(())
    }

    async fn point(&mut self, centre: CentreId, point: &Point) -> Result<(), ImportError> {
        self.own_gateway(centre, point.gateway.0, &point.path)
            .await?;
        let enrolment = &point.enrolment;
        if let Some(zone) = &enrolment.zone {
            let row = sql!(
                self.tx,
                fetch_optional as (String,),
                "select id from zone where centre = $1 and id = $2",
                centre.0,
                zone.as_str()
            )?;
            if row.is_none() {
                let wanted = "must be a zone of this centre, in its list or imported before";
                return Err(wrong(&point.path, "zone", wanted));
            }
        }
        let body = serde_json::to_string(enrolment)?;
        sql!(
            self.tx,
            execute,
            "insert into enrolment (centre, device, point, gateway, body)
             values ($1, $2, $3, $4, $5)
             on conflict (centre, device, point) do update set
                 gateway = excluded.gateway, body = excluded.body",
            centre.0,
            enrolment.device.as_str(),
            enrolment.point.as_str(),
            point.gateway.0,
            body.as_str()
        )?;
        Ok(())
    }

    async fn child(&mut self, centre: CentreId, child: &Child) -> Result<(), ImportError> {
        let names = serde_json::to_vec(&ChildNames {
            name: child.name.clone(),
            short_name: child.short_name.clone(),
        })?;
        let of = Sealed::Child(child.id);
        let sealed = self.keys.sealing.seal(self.entropy, of, &names)?;
        let done = sql!(
            self.tx,
            execute,
            "insert into child (centre, id, class_group, sealed) values ($1, $2, $3, $4)
             on conflict (id) do update set class_group = excluded.class_group,
                 sealed = excluded.sealed
             where child.centre = excluded.centre",
            centre.0,
            child.id.0,
            child.class_group.as_str(),
            sealed.clone()
        )?;
        if done == 0 {
            let wanted = "must be a new id: this child belongs to another centre";
            return Err(wrong(&child.path, "id", wanted));
        }
        Ok(())
    }

    async fn cards(&mut self, centre: &Centre) -> Result<(), ImportError> {
        if centre.cards.is_empty() {
            return Ok(());
        }
        let (sealed,) = sql!(
            self.tx,
            fetch_one as (Vec<u8>,),
            "select credential_key from centre where id = $1",
            centre.id.0
        )?;
        let opened = self.keys.sealing.open(Sealed::CardKey(centre.id), &sealed);
        let bytes = opened.map_err(DbError::corrupt("centre.credential_key"))?;
        let bytes = <[u8; 32]>::try_from(bytes)
            .map_err(|_| DbError::corrupt("centre.credential_key")("not 32 bytes"))?;
        let key = CredentialKey::new(&bytes);
        for card in &centre.cards {
            self.card(centre.id, &key, card).await?;
        }
        Ok(())
    }

    async fn card(
        &mut self,
        centre: CentreId,
        key: &CredentialKey,
        card: &Card,
    ) -> Result<(), ImportError> {
        let held = if card.holder_kind == "child" {
            let row = sql!(
                self.tx,
                fetch_optional as (Uuid,),
                "select id from child where id = $1 and centre = $2",
                card.holder,
                centre.0
            )?;
            row.is_some()
        } else {
            self.there("select id from person where id = $1", card.holder)
                .await?
        };
        if !held {
            let wanted =
                "must be a child of this centre, or a person in $.people or imported before";
            return Err(wrong(&card.path, "holder.id", wanted));
        }
        sql!(
            self.tx,
            execute,
            "insert into credential (centre, hidden, holder_kind, holder) values ($1, $2, $3, $4)
             on conflict (centre, hidden) do update set
                 holder_kind = excluded.holder_kind, holder = excluded.holder",
            centre.0,
            key.hide(&card.number).0.to_vec(),
            card.holder_kind,
            card.holder
        )?;
        Ok(())
    }
}
