//! Makes disks of this test the file system of SQLite, for this whole program.
//!
//! It is SQLite's default, so the store under test is opened as ever and knows nothing of it. A
//! path is `NAME.db`; what follows the name (`-wal`, `-journal`) lies on the same disk. The known
//! crates for this do not fit: sqlite-vfs 0.2 has no WAL, sqlite-plugin 0.11 needs libclang to be
//! built. Device characteristics and sector size are those of SQLite's own unix file system.
//!
//! Safety of all functions below: SQLite calls them with what it got from `register` and `open`:
//! `file` points to `szOsFile` bytes that begin with an [`OpenFile`], written by `open` and alive
//! until `close`, used by one thread at a time; buffers have the lengths that are passed; names end
//! with a zero. Panics end the program (`extern "C"`).

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int, c_void},
    mem,
    ptr::{null, null_mut},
    slice,
    sync::{
        Arc, Mutex, MutexGuard, Once,
        atomic::{Ordering, fence},
    },
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use crate::{
    disk::{Disk, Handle},
    shared::{REGION_BYTES, Region},
};

static DISKS: Mutex<BTreeMap<String, Arc<Mutex<Disk>>>> = Mutex::new(BTreeMap::new());

/// A disk under a name, until it is dropped.
pub(crate) struct Mounted {
    name: String,
    disk: Arc<Mutex<Disk>>,
}

impl Mounted {
    pub(crate) fn new(name: &str, disk: Disk) -> Mounted {
        register();
        let disk = Arc::new(Mutex::new(disk));
        DISKS.lock().unwrap().insert(name.to_owned(), disk.clone());
        Mounted { name: name.to_owned(), disk }
    }

    pub(crate) fn path(&self) -> String {
        format!("{}.db", self.name)
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        DISKS.lock().unwrap().remove(&self.name);
    }
}

/// Finds the disk of a path. Files without a name (SQLite's own) have a disk that never fails.
fn disk_of(path: &str) -> Arc<Mutex<Disk>> {
    let name = path.split_once(".db").map_or("", |(name, _)| name);
    let mut disks = DISKS.lock().unwrap();
    disks.entry(name.to_owned()).or_default().clone()
}

/// What SQLite has for an open file. Its first field is SQLite's.
#[repr(C)]
struct OpenFile {
    base: sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Arc<Mutex<Disk>>,
    handle: Handle,
    /// Keeps the memory alive that SQLite has pointers to, also when its machine is gone.
    regions: Vec<Arc<Region>>,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = sqlite3_vfs {
            iVersion: 2,
            szOsFile: mem::size_of::<OpenFile>() as c_int,
            mxPathname: 256,
            pNext: null_mut(),
            zName: c"failing-disk".as_ptr(),
            pAppData: null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: None,
            xCurrentTimeInt64: Some(current_time_int64),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        };
        // SAFETY: the structure is never freed, and changed by SQLite alone.
        let answer = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 1) };
        assert_eq!(answer, ffi::SQLITE_OK);
    });
}

fn code(answer: Result<(), c_int>) -> c_int {
    answer.err().unwrap_or(ffi::SQLITE_OK)
}

/// Returns what `open` made.
///
/// # Safety
/// See the module: the file is open, and nobody else uses it meanwhile.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a mut Open {
    // SAFETY: the caller's.
    unsafe { &mut *(*file.cast::<OpenFile>()).open }
}

/// # Safety
/// `name` ends with a zero, or is null.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned()
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<OpenFile>();
    // SAFETY: see the module. Without methods, SQLite does not close what could not be opened.
    let name = unsafe {
        (*file).base.pMethods = null();
        text(name)
    };
    let disk = disk_of(&name);
    let opened = disk.lock().unwrap().open(&name, flags & ffi::SQLITE_OPEN_CREATE != 0);
    let handle = match opened {
        Ok(handle) => handle,
        Err(error) => return error,
    };
    let open = Box::new(Open { disk, handle, regions: Vec::new() });
    // SAFETY: see the module; `out_flags` may be null.
    unsafe {
        (*file).open = Box::into_raw(open);
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see the module; it came from `Box::into_raw` and is not used again.
    let open = unsafe { Box::from_raw((*file.cast::<OpenFile>()).open) };
    open.disk.lock().unwrap().close(open.handle);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: see the module.
    let (open, into) = unsafe {
        into.write_bytes(0, length as usize);
        (opened(file), slice::from_raw_parts_mut(into.cast::<u8>(), length as usize))
    };
    match open.disk.lock().unwrap().read(open.handle, at as usize, into) {
        Ok(count) if count < into.len() => ffi::SQLITE_IOERR_SHORT_READ,
        answer => code(answer.map(drop)),
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: see the module.
    let (open, bytes) =
        unsafe { (opened(file), slice::from_raw_parts(bytes.cast::<u8>(), length as usize)) };
    code(open.disk.lock().unwrap().write(open.handle, at as usize, bytes))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, bytes: ffi::sqlite3_int64) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    code(open.disk.lock().unwrap().cut(open.handle, bytes as usize))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    code(open.disk.lock().unwrap().sync(open.handle))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    let answer = open.disk.lock().unwrap().size(open.handle);
    // SAFETY: `size` is SQLite's variable.
    code(answer.map(|bytes| unsafe { *size = bytes as ffi::sqlite3_int64 }))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    code(open.disk.lock().unwrap().lock(open.handle, level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    open.disk.lock().unwrap().unlock(open.handle, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, found: *mut c_int) -> c_int {
    // SAFETY: see the module; `found` is SQLite's variable.
    unsafe {
        let open = opened(file);
        *found = open.disk.lock().unwrap().is_reserved(open.handle).into();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_file: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE | ffi::SQLITE_IOCAP_SUBPAGE_READ
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    index: c_int,
    bytes: c_int,
    extend: c_int,
    place: *mut *mut c_void,
) -> c_int {
    assert_eq!(bytes as usize, REGION_BYTES, "SQLite's size of a region");
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    let mut disk = open.disk.lock().unwrap();
    let shared = match disk.shared(open.handle) {
        Ok(shared) => shared,
        Err(error) => return error,
    };
    let region = shared.region(open.handle.id, index as usize, extend != 0);
    let pointer = region.as_ref().map_or(null_mut(), |region| region.pointer());
    open.regions.extend(region);
    // SAFETY: `place` is SQLite's variable; `regions` keeps what it points to until `close`.
    unsafe { *place = pointer };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    let mut disk = open.disk.lock().unwrap();
    match disk.shared_still(open.handle) {
        Some(shared) => code(shared.lock(open.handle.id, first, count, flags)),
        None => ffi::SQLITE_IOERR_SHMLOCK,
    }
}

unsafe extern "C" fn shm_barrier(_file: *mut sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: see the module.
    let open = unsafe { opened(file) };
    if let Some(shared) = open.disk.lock().unwrap().shared_still(open.handle) {
        shared.leave(open.handle.id);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: see the module.
    let name = unsafe { text(name) };
    code(disk_of(&name).lock().unwrap().delete(&name, sync != 0))
}

unsafe extern "C" fn access(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    found: *mut c_int,
) -> c_int {
    // SAFETY: see the module.
    let name = unsafe { text(name) };
    let answer = disk_of(&name).lock().unwrap().exists(&name);
    // SAFETY: `found` is SQLite's variable.
    code(answer.map(|there| unsafe { *found = there.into() }))
}

unsafe extern "C" fn full_pathname(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    full: *mut c_char,
) -> c_int {
    // SAFETY: see the module; `full` has room for `length` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > length as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        full.copy_from_nonoverlapping(bytes.as_ptr().cast(), bytes.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(
    _vfs: *mut sqlite3_vfs,
    length: c_int,
    bytes: *mut c_char,
) -> c_int {
    // SAFETY: see the module.
    unsafe { bytes.write_bytes(0x42, length as usize) };
    length
}

unsafe extern "C" fn sleep(_vfs: *mut sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn current_time(_vfs: *mut sqlite3_vfs, days: *mut f64) -> c_int {
    // SAFETY: `days` is SQLite's variable. The Julian day of 2026-11-22.
    unsafe { *days = 2_461_366.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_int64(
    _vfs: *mut sqlite3_vfs,
    millis: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: `millis` is SQLite's variable.
    unsafe { *millis = 2_461_366 * 86_400_000 + 43_200_000 };
    ffi::SQLITE_OK
}
