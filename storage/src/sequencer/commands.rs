//! What somebody asks for and waits for: each a commit's part, like everything else.

use std::sync::Arc;

use protocol::did::Did;
use protocol::ids::HostId;

use crate::reconcile::Excused;
use crate::store::{Family, keys, records};
use crate::{Error, gaps};

use super::Sequencer;
use super::entry::Command;

impl Sequencer {
    /// The store shows everything that was gathered before, and nothing is gathered.
    pub(super) fn command(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::SettleGap { host, did, began } => {
                let row = self.hosts.row(host)?;
                gaps::settle(row, &mut self.pending, &self.store, did, began)
            }
            Command::Reconcile { host, row } => {
                self.hosts.row(host)?;
                let family = self.store.family(Family::Reconcile);
                self.pending.rows.put_cf(family, keys::reconcile(host), records::reconcile(&row));
                Ok(())
            }
            Command::Excuse { host, did, row } => self.excuse(host, &did, row.as_ref()),
            Command::RemoveHost { host } => self.remove_host(host),
            Command::BanDomains { patterns } => {
                let family = self.store.family(Family::Meta);
                let row = records::lines(&patterns);
                self.pending.rows.put_cf(family, keys::META_DOMAIN_BANS, row);
                self.pending.domain_bans = Some(Arc::from(patterns));
                Ok(())
            }
        }
    }

    fn excuse(&mut self, host: HostId, did: &Did, row: Option<&Excused>) -> Result<(), Error> {
        self.hosts.row(host)?;
        let (family, key) = (self.store.family(Family::Reconcile), keys::excused(host, did));
        match row {
            None => self.pending.rows.delete_cf(family, key),
            // There are at most as many as the host has accounts.
            Some(row) => {
                if self.membership(host, did)?.is_some() {
                    self.pending.rows.put_cf(family, key, records::excused(row));
                }
            }
        }
        Ok(())
    }

    // A crash leaves all of the host or nothing (I1). Ranges are deleted whole, so it is a small
    // step however many accounts it had. Their own rows stay, and name a number that no other host
    // gets.
    fn remove_host(&mut self, id: HostId) -> Result<(), Error> {
        let (row, freed) = self.hosts.remove(id)?;
        self.islands -= row.watermark.islands();
        let last = records::host_id(self.hosts.last());
        let rows = &mut self.pending.rows;
        // I12: once its own row is gone, this alone says that the number was given.
        rows.put_cf(self.store.family(Family::Meta), keys::META_LAST_HOST, last);
        rows.delete_cf(self.store.family(Family::Hosts), keys::host(id));
        rows.delete_cf(self.store.family(Family::Gaps), keys::gap_host(id));
        rows.delete_cf(self.store.family(Family::Reconcile), keys::reconcile(id));
        let (from, to) = keys::of_host(id);
        for family in [Family::HostAccounts, Family::Throttled, Family::Rejects] {
            rows.delete_range_cf(self.store.family(family), &from, &to);
        }
        let (from, to) = keys::gap_accounts(id);
        rows.delete_range_cf(self.store.family(Family::Gaps), from, to);
        let (from, to) = keys::excused_of(id);
        rows.delete_range_cf(self.store.family(Family::Reconcile), from, to);
        self.pending.removed.push(id);
        self.pending.hosts.extend(freed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::account::{Account, Local, Throttle};
    use protocol::ids::{Epoch, Micros};

    use super::*;
    use crate::fixture::*;
    use crate::sequencer::tests::crash_image;
    use crate::store::faults::Fault;
    use crate::{
        AccountWrite, Entry, Gap, Handle, HostNote, Memory, ReconcileRow, RejectNote, Start, open,
    };

    const GAP: fn(HostId) -> HostNote =
        |host| HostNote::Gap { host, reason: "too slow".to_owned() };

    /// An event of the host that leaves a row in everything that is kept per host.
    fn event(host: HostId, number: u64) -> Entry {
        let mut entry = accepted(host, number - 1, number, &did(number), false);
        let local = Local::Throttled(Throttle::Quota);
        let account = Account { local, ..account(host, number) };
        entry.account = Some(AccountWrite { account, was: None, decided: true });
        entry.gap = Some(Gap { host, did: Some(did(number)) });
        entry.closes_ratchet = Some(host);
        entry.reject = Some(RejectNote {
            name: "rev_old",
            host,
            did: None,
            excerpt: Bytes::new(),
            at: Micros(NOW),
        });
        entry
    }

    async fn fill(handle: &Handle, host: HostId) {
        handle.submit((1..=3).map(|number| event(host, number)).collect());
        handle.put_reconcile_row(host, ReconcileRow::default()).await.unwrap();
        handle.put_excused(host, did(1), Excused::default()).await.unwrap();
        handle.note_host(HostNote::Ban { host, banned: true }).await.unwrap();
    }

    /// Rows of each family that begin with this host's number, or with a tag and it.
    fn rows_of(handle: &Handle, host: HostId) -> Vec<Family> {
        let id = keys::host(host);
        let of = |family: &Family| {
            let rows = handle.store().range(*family, &[], None, usize::MAX).unwrap();
            rows.iter().any(|row| match family {
                Family::Gaps | Family::Reconcile => row.key[1..].starts_with(&id),
                _ => row.key.starts_with(&id),
            })
        };
        PER_HOST.into_iter().filter(of).collect()
    }

    const PER_HOST: [Family; 6] = [
        Family::Hosts,
        Family::HostAccounts,
        Family::Throttled,
        Family::Gaps,
        Family::Reconcile,
        Family::Rejects,
    ];

    #[tokio::test]
    async fn a_removed_host_is_gone_and_its_number_is_never_given_again() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let handle = open(options(&clock, &memory)).unwrap();
        let other = add(&handle, "other.example.com").await.id;
        let host = add(&handle, "pds.example.com").await.id;
        for id in [other, host] {
            fill(&handle, id).await;
        }
        handle.note_host(HostNote::Alias { host: other, of: Some(host) }).await.unwrap();
        assert_eq!(rows_of(&handle, host), PER_HOST);
        let count = handle.account_count(host);
        handle.remove_host(host).await.unwrap();
        assert_eq!(rows_of(&handle, host), []);
        assert_eq!(
            (handle.host(host), handle.host_by_name(&name("pds.example.com"))),
            (None, None)
        );
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 0);
        // The other has all of its own, and is another's name no longer.
        assert_eq!(rows_of(&handle, other), PER_HOST);
        assert_eq!(handle.host(other).unwrap().alias_of, None);
        // The accounts are as they were.
        assert_eq!(handle.account(&did(1)).unwrap().unwrap().host, host);
        assert!(matches!(handle.remove_host(host).await, Err(Error::UnknownHost(_))));
        handle.stop().unwrap();

        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(rows_of(&handle, host), []);
        let again = handle.add_host(name("pds.example.com"), Start::Oldest, 0).await.unwrap();
        assert_eq!((again.id, again.accounts), (HostId(host.0 + 1), 0));
        assert_eq!(handle.host_by_name(&again.name).unwrap().id, again.id);
        // It takes over whose accounts it speaks for.
        let mut entry = accepted(again.id, 0, 1, &did(1), false);
        entry.account.as_mut().unwrap().was = Some(host);
        handle.submit(vec![entry]);
        settle(&handle).await;
        assert_eq!(handle.host(again.id).unwrap().accounts, 1);
    }

    #[tokio::test]
    async fn what_was_on_its_way_of_a_removed_host_is_passed_over() {
        let (handle, _) = store();
        let host = add(&handle, "pds.example.com").await.id;
        fill(&handle, host).await;
        handle.remove_host(host).await.unwrap();
        handle.submit(vec![event(host, 4), event(host, 5)]);
        let (epoch, reason) = (Epoch(1), String::new());
        handle.note_host(HostNote::Reset { host, epoch, reason }).await.unwrap();
        handle.note_host(GAP(host)).await.unwrap();
        // Whoever wants something of it is told.
        for note in [
            HostNote::Ban { host, banned: false },
            HostNote::Alias { host, of: None },
            HostNote::Allowance { host, allowance: crate::Override::default() },
        ] {
            assert!(matches!(handle.note_host(note).await, Err(Error::UnknownHost(_))));
        }
        for result in [
            handle.put_reconcile_row(host, ReconcileRow::default()).await,
            handle.put_excused(host, did(4), Excused::default()).await,
            handle.settle_gap(host, None, Micros(NOW)).await,
        ] {
            assert!(matches!(result, Err(Error::UnknownHost(_))));
        }
        settle(&handle).await;
        assert!(handle.is_writable());
        assert_eq!(rows_of(&handle, host), []);
        // The events themselves were checked, and are in the log.
        assert_eq!(read_all(&handle.log(), seq(0), 1 << 20).await.len(), 5);
    }

    #[tokio::test]
    async fn i1_a_crash_leaves_all_of_a_host_or_nothing() {
        for (fault, left) in
            [(Fault::NotDone, PER_HOST.to_vec()), (Fault::DoneButFailed, Vec::new())]
        {
            let dir = tempfile::tempdir().unwrap();
            let clock = Clockwork::at(NOW);
            let handle = open(on_disk(&clock, dir.path())).unwrap();
            let host = add(&handle, "pds.example.com").await.id;
            fill(&handle, host).await;
            settle(&handle).await;
            handle.store().faults.arm(fault);
            assert!(handle.remove_host(host).await.is_err());
            assert_eq!(handle.store().faults.fired(), 1);
            let image = crash_image(dir.path());
            let handle = open(on_disk(&clock, image.path())).unwrap();
            assert_eq!(rows_of(&handle, host), left);
            let next = add(&handle, "next.example.com").await.id;
            assert!(next > host);
            handle.stop().unwrap();
            let report = crate::check::check(image.path(), &mut |_| {}).unwrap();
            assert_eq!(report.findings, []);
        }
    }

    /// A crash leaves no host that stands where nobody has put it.
    #[tokio::test]
    async fn a_host_is_added_with_its_standing() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let handle = open(options(&clock, &memory)).unwrap();
        let name = name("pds.example.com");
        let host = handle.add_host(name.clone(), Start::Oldest, 3).await.unwrap();
        assert_eq!((host.level, host.level_since, host.abuse), (3, host.added, 0));
        // One that is there stays as it is.
        assert_eq!(handle.add_host(name.clone(), Start::Live, 5).await.unwrap(), host);
        handle.stop().unwrap();
        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(handle.host_by_name(&name), Some(host));
    }

    #[tokio::test]
    async fn what_reconciliation_keeps_is_there_after_a_restart() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let handle = open(options(&clock, &memory)).unwrap();
        let host = add(&handle, "pds.example.com").await.id;
        assert_eq!(handle.reconcile_row(host).unwrap(), None);
        for number in 1..=3 {
            handle.submit(vec![accepted(host, number - 1, number, &did(number), false)]);
        }
        let row = ReconcileRow { after: "x".to_owned(), listed: 5, ..ReconcileRow::default() };
        handle.put_reconcile_row(host, row.clone()).await.unwrap();
        let excused = |rev: &str| Excused { rev: rev.to_owned(), ..Excused::default() };
        for number in 1..=4 {
            let row = excused(&number.to_string());
            handle.put_excused(host, did(number), row).await.unwrap();
        }
        handle.drop_excused(host, did(2)).await.unwrap();
        handle.stop().unwrap();
        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(handle.reconcile_row(host).unwrap(), Some(row));
        assert_eq!(handle.excused(host, &did(1)).unwrap(), Some(excused("1")));
        assert_eq!(handle.excused(host, &did(2)).unwrap(), None);
        // The host has no such account, whatever it lists.
        assert_eq!(handle.excused(host, &did(4)).unwrap(), None);
        let all = handle.excused_after(host, None, 10).unwrap();
        assert_eq!(all, [(did(1), excused("1")), (did(3), excused("3"))]);
        assert_eq!(handle.excused_after(host, None, 1).unwrap(), all[..1]);
        assert_eq!(handle.excused_after(host, Some(&did(1)), 10).unwrap(), all[1..]);
        // Neither has it one that has moved away.
        let other = add(&handle, "other.example.com").await.id;
        let mut moved = accepted(other, 0, 1, &did(1), true);
        moved.account.as_mut().unwrap().was = Some(host);
        handle.submit(vec![moved]);
        settle(&handle).await;
        assert_eq!(handle.excused_after(host, None, 10).unwrap(), all[1..]);
    }

    #[tokio::test]
    async fn refused_names_are_kept_as_they_were_given() {
        let (clock, memory) = (Clockwork::at(NOW), Memory::empty().unwrap());
        let handle = open(options(&clock, &memory)).unwrap();
        assert!(handle.domain_bans().is_empty());
        let bans = ["*.bad.example.com", "worse.example.com"].map(str::to_owned).to_vec();
        handle.set_domain_bans(bans.clone()).await.unwrap();
        assert_eq!(*handle.domain_bans(), bans);
        for wrong in [vec![String::new()], vec!["a\nb".into()], vec!["x".repeat(261)]] {
            assert!(handle.set_domain_bans(wrong).await.is_err());
        }
        assert!(handle.set_domain_bans(vec!["a.b".to_owned(); 10_001]).await.is_err());
        handle.stop().unwrap();
        let handle = open(options(&clock, &memory)).unwrap();
        assert_eq!(*handle.domain_bans(), bans);
        handle.set_domain_bans(Vec::new()).await.unwrap();
        handle.stop().unwrap();
        assert!(open(options(&clock, &memory)).unwrap().domain_bans().is_empty());
    }
}
