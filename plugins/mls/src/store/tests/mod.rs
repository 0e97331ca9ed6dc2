//! Both stores, through the same generic functions: this is also how the room uses them.

pub(super) mod group;

use super::*;
use group::{Endpoint, update};
use openmls::prelude::*;

fn sqlite() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("a/state.db"), &[7; 32].into()).unwrap();
    (folder, store)
}

/// Runs a generic test over both stores.
macro_rules! over_both {
    ($($test:ident)*) => {
        mod memory {$(
            #[test]
            fn $test() {
                super::$test(super::MemoryStore::new());
            }
        )*}
        mod sqlite {$(
            #[test]
            fn $test() {
                let (_folder, store) = super::sqlite();
                super::$test(store);
            }
        )*}
    };
}

over_both! {
    a_group_is_made_joined_changed_and_loaded_again
    a_rollback_brings_back_the_epoch_before
    own_rows_are_kept_and_removed
    a_write_outside_of_a_transaction_is_refused
    a_wipe_forgets_groups_and_key_packages_but_no_own_rows
    a_transaction_that_fails_leaves_nothing
}

fn a_group_is_made_joined_changed_and_loaded_again(mut store: impl Store) {
    let mut other_store = MemoryStore::new();
    let (mut a, mut b) = group::pair(&mut store, &mut other_store);
    let commit = update(&mut other_store, &mut b);
    a.process(&mut store, &commit).unwrap();
    assert_eq!(a.group().epoch(), b.group().epoch());
    a.reload(&store);
    assert_eq!(a.secret(&store), b.secret(&other_store));
    // What was loaded works on.
    let commit = update(&mut store, &mut a);
    b.process(&mut other_store, &commit).unwrap();
    assert_eq!(a.secret(&store), b.secret(&other_store));
}

fn a_rollback_brings_back_the_epoch_before(mut store: impl Store) {
    let mut other_store = MemoryStore::new();
    let (mut a, mut b) = group::pair(&mut store, &mut other_store);
    let secret = a.secret(&store);
    let commit = update(&mut other_store, &mut b);
    store.begin().unwrap();
    a.merge(&store, &commit).unwrap();
    store.rollback().unwrap();
    a.reload(&store);
    assert_eq!(a.secret(&store), secret);
    a.process(&mut store, &commit).unwrap();
    assert_eq!(a.secret(&store), b.secret(&other_store));
}

fn own_rows_are_kept_and_removed(mut store: impl Store) {
    assert_eq!(store.get("row").unwrap(), None);
    store
        .transaction(|store| {
            store.put("row", b"old")?;
            store.put("row", b"new")
        })
        .unwrap();
    assert_eq!(store.get("row").unwrap().as_deref(), Some(&b"new"[..]));
    store
        .transaction(|store| {
            store.delete("row")?;
            store.delete("never was there")
        })
        .unwrap();
    assert_eq!(store.get("row").unwrap(), None);
}

fn a_write_outside_of_a_transaction_is_refused(mut store: impl Store) {
    assert!(matches!(store.put("row", b"1"), Err(StoreError::NotOpen)));
    assert!(matches!(store.delete("row"), Err(StoreError::NotOpen)));
    assert!(matches!(store.wipe_group(), Err(StoreError::NotOpen)));
    assert!(matches!(store.commit(), Err(StoreError::NotOpen)));
    store.rollback().unwrap();
    let endpoint = Endpoint::new("a");
    assert!(endpoint.key_package(&store).is_err());
    store.begin().unwrap();
    assert!(matches!(store.begin(), Err(StoreError::Open)));
    endpoint.key_package(&store).unwrap();
    store.commit().unwrap();
    assert!(endpoint.key_package(&store).is_err());
}

fn a_wipe_forgets_groups_and_key_packages_but_no_own_rows(mut store: impl Store) {
    let (a, _) = group::pair(&mut store, &mut MemoryStore::new());
    let id = a.group().group_id().clone();
    let package = store
        .transaction(|store| {
            store.put("row", b"kept")?;
            let package = a.key_package(store).unwrap();
            store.wipe_group()?;
            Ok::<_, StoreError>(package)
        })
        .unwrap();
    let provider = store.provider();
    assert!(MlsGroup::load(provider.storage(), &id).unwrap().is_none());
    let reference = package.key_package().hash_ref(provider.crypto()).unwrap();
    let found: Option<KeyPackageBundle> =
        openmls_traits::storage::StorageProvider::key_package(provider.storage(), &reference).unwrap();
    assert!(found.is_none());
    assert_eq!(store.get("row").unwrap().as_deref(), Some(&b"kept"[..]));
}

fn a_transaction_that_fails_leaves_nothing(mut store: impl Store) {
    let result: Result<(), StoreError> = store.transaction(|store| {
        store.put("row", b"1")?;
        Err(StoreError::Crashed)
    });
    assert!(matches!(result, Err(StoreError::Crashed)));
    assert_eq!(store.get("row").unwrap(), None);
    store.transaction(|store| store.put("row", b"2")).unwrap();
}

/// What the runner does: it owns the store on its thread.
#[test]
fn stores_go_to_a_thread() {
    fn owned_by_a_thread(store: impl Store + 'static) {
        let store = std::thread::spawn(move || store).join().unwrap();
        assert!(store.get("row").unwrap().is_none());
    }
    owned_by_a_thread(MemoryStore::new());
    let (_folder, store) = sqlite();
    owned_by_a_thread(store);
}

#[test]
fn a_crash_at_any_write_of_a_merge_leaves_the_epoch_before() {
    let (mut a_store, mut b_store) = (MemoryStore::new(), MemoryStore::new());
    let (mut a, mut b) = group::pair(&mut a_store, &mut b_store);
    let commit = update(&mut b_store, &mut b);
    let before = a.secret(&a_store);
    let mut crashes = 0;
    loop {
        crashes += 1;
        a_store.crash_after(crashes);
        if a.process(&mut a_store, &commit).is_ok() {
            break;
        }
        assert!(a_store.crashed());
        assert!(matches!(a_store.get("row"), Err(StoreError::Crashed)));
        assert!(matches!(a_store.begin(), Err(StoreError::Crashed)));
        a_store.restart();
        a.reload(&a_store);
        assert_eq!(a.secret(&a_store), before);
    }
    // A merge that is less than a dozen writes is not what openmls does.
    assert!(crashes > 10, "{crashes}");
    a_store.restart();
    a.reload(&a_store);
    assert_eq!(a.secret(&a_store), b.secret(&b_store));
}

#[test]
fn a_snapshot_is_what_was_committed_and_stays_so() {
    let mut store = MemoryStore::new();
    let put =
        |store: &mut MemoryStore, value: &[u8]| store.transaction(|store| store.put("row", value)).unwrap();
    let row = |store: &MemoryStore| store.get("row").unwrap();
    put(&mut store, b"1");
    store.begin().unwrap();
    store.put("row", b"2").unwrap();
    let (snapshot, copy) = (store.snapshot(), store.clone());
    store.commit().unwrap();
    assert_eq!(row(&store).as_deref(), Some(&b"2"[..]));
    assert_eq!(row(&copy).as_deref(), Some(&b"1"[..]));
    store.restore(&snapshot);
    assert_eq!(row(&store).as_deref(), Some(&b"1"[..]));
    put(&mut store, b"3");
    assert_eq!(row(&copy).as_deref(), Some(&b"1"[..]));
    let mut other = MemoryStore::new();
    other.restore(&snapshot);
    assert_eq!(row(&other).as_deref(), Some(&b"1"[..]));
}
