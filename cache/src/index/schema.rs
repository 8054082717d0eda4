//! The tables.
//!
//! - Keys and digests are 32-byte BLOBs, layer ids are their 64 bits as a signed integer.
//! - `boot` is the boot that wrote a row, until a sync; NULL afterwards. A row counts if it is NULL
//!   or this boot's: what another boot wrote without a sync may have lost its files.
//! - `seq` grows with every row ever made, so that "all that was there before the sync" can be said.
//! - Times are milliseconds since the epoch. A record's `created` is its layer's, which images show;
//!   `made` is when its step was last run to see what it gives.
//! - `stack` names all the layers that a record's step ran on, `inputs` lists those that it read
//!   besides, `selection` is the digest of what it read of them, once somebody asked.
//! - `resources` is what the step's processes used, as JSON; NULL where nobody knows.
//! - `record_parts` has what a record's key was made of, by the record's `seq`: long texts, which nobody
//!   reads but to explain.
//! - `builds` has what was built when, and the layer that came out: the latest of each name.
//! - `origins` says which repositories of registries have a blob, whether it is here or not.
//! - `lists` has names' other meaning: several images, of as many platforms, as `document` says. A row of
//!   `names` has the config of an image or the ID of a list. Lists are only ever written durably.
//! - `layer_files` has content digests of single files of layers, for those that were copied.
//! - `layer_contents` says which files a layer holds that a copy wrote; it goes with the layer.

/// Version that [`TABLES`] makes, kept in `user_version`.
pub(super) const VERSION: i32 = 8;

/// Everything, for a new index.
pub(super) const TABLES: &str = "
CREATE TABLE layers (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             INTEGER NOT NULL UNIQUE,
    diff_id        BLOB,
    chain_id       BLOB,
    content_digest BLOB,
    size           INTEGER NOT NULL,
    entries        INTEGER NOT NULL,
    created        INTEGER NOT NULL,
    last_used      INTEGER NOT NULL,
    boot           TEXT,
    links          BLOB
);
CREATE UNIQUE INDEX layers_chain ON layers (chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX layers_unsynced ON layers (boot) WHERE boot IS NOT NULL;

CREATE TABLE records (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    key       BLOB NOT NULL UNIQUE,
    layer     INTEGER NOT NULL,
    parent    INTEGER,
    operation BLOB NOT NULL,
    content   BLOB NOT NULL,
    kind      TEXT NOT NULL,
    text      TEXT NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    uses      INTEGER NOT NULL DEFAULT 0,
    cost_ms   INTEGER NOT NULL,
    boot      TEXT,
    made      INTEGER NOT NULL DEFAULT 0,
    stack     BLOB,
    inputs    BLOB,
    selection BLOB,
    resources TEXT
);
CREATE INDEX records_content ON records (content);
CREATE INDEX records_operation ON records (operation);
CREATE INDEX records_layer ON records (layer);
CREATE INDEX records_parent ON records (parent) WHERE parent IS NOT NULL;
CREATE INDEX records_unsynced ON records (boot) WHERE boot IS NOT NULL;
CREATE INDEX records_text ON records (substr(text, 1, 64));

CREATE TABLE record_parts (
    seq   INTEGER PRIMARY KEY,
    parts TEXT NOT NULL
);
CREATE TRIGGER records_gone AFTER DELETE ON records BEGIN
    DELETE FROM record_parts WHERE seq = old.seq;
END;

CREATE TABLE builds (
    name  TEXT PRIMARY KEY,
    at    INTEGER NOT NULL,
    layer INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX builds_at ON builds (at);

CREATE TABLE blobs (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    digest    BLOB NOT NULL UNIQUE,
    size      INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    boot      TEXT
);
CREATE INDEX blobs_unsynced ON blobs (boot) WHERE boot IS NOT NULL;

CREATE TABLE layer_blobs (
    layer    INTEGER NOT NULL,
    encoding TEXT NOT NULL,
    digest   BLOB NOT NULL,
    size     INTEGER NOT NULL,
    UNIQUE (layer, encoding)
);
CREATE INDEX layer_blobs_digest ON layer_blobs (digest);

CREATE TABLE origins (
    blob       BLOB NOT NULL,
    repository TEXT NOT NULL,
    seen       INTEGER NOT NULL,
    PRIMARY KEY (blob, repository)
) WITHOUT ROWID;

CREATE TABLE layer_files (
    layer  INTEGER NOT NULL,
    path   BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (layer, path)
) WITHOUT ROWID;

CREATE TABLE layer_contents (
    layer INTEGER PRIMARY KEY,
    files BLOB NOT NULL
);
CREATE TRIGGER layers_gone AFTER DELETE ON layers BEGIN
    DELETE FROM layer_contents WHERE layer = old.id;
END;

CREATE TABLE images (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    config   BLOB NOT NULL UNIQUE,
    manifest BLOB,
    created  INTEGER NOT NULL,
    boot     TEXT
);
CREATE INDEX images_unsynced ON images (boot) WHERE boot IS NOT NULL;

CREATE TABLE image_layers (
    config     BLOB NOT NULL,
    position   INTEGER NOT NULL,
    diff_id    BLOB NOT NULL,
    layer      INTEGER,
    blob       BLOB,
    blob_size  INTEGER,
    media_type TEXT,
    PRIMARY KEY (config, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_layer ON image_layers (layer) WHERE layer IS NOT NULL;
CREATE INDEX image_layers_blob ON image_layers (blob) WHERE blob IS NOT NULL;

CREATE TABLE names (
    name   TEXT PRIMARY KEY,
    config BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX names_config ON names (config);

CREATE TABLE lease_layers (
    lease TEXT NOT NULL,
    layer INTEGER NOT NULL,
    PRIMARY KEY (lease, layer)
) WITHOUT ROWID;
CREATE INDEX lease_layers_layer ON lease_layers (layer);

CREATE TABLE lease_blobs (
    lease  TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE INDEX lease_blobs_digest ON lease_blobs (digest);

CREATE TABLE mounts (
    directory TEXT PRIMARY KEY,
    id        TEXT NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    boot      TEXT
) WITHOUT ROWID;

CREATE TABLE pins (
    id      TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pruned (
    key  BLOB PRIMARY KEY,
    at   INTEGER NOT NULL,
    why  TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX pruned_at ON pruned (at);

CREATE TABLE lists (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    document TEXT NOT NULL,
    created  INTEGER NOT NULL
);

CREATE TABLE list_members (
    list   BLOB NOT NULL,
    config BLOB NOT NULL,
    PRIMARY KEY (list, config)
) WITHOUT ROWID;
CREATE INDEX list_members_config ON list_members (config);

CREATE TABLE list_blobs (
    list BLOB NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (list, blob)
) WITHOUT ROWID;
CREATE INDEX list_blobs_blob ON list_blobs (blob);
";

/// Version 4 to 5: names for several images at once.
pub(super) const LISTS: &str = "
CREATE TABLE lists (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       BLOB NOT NULL UNIQUE,
    document TEXT NOT NULL,
    created  INTEGER NOT NULL
);

CREATE TABLE list_members (
    list   BLOB NOT NULL,
    config BLOB NOT NULL,
    PRIMARY KEY (list, config)
) WITHOUT ROWID;
CREATE INDEX list_members_config ON list_members (config);

CREATE TABLE list_blobs (
    list BLOB NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (list, blob)
) WITHOUT ROWID;
CREATE INDEX list_blobs_blob ON list_blobs (blob);
";

/// Version 5 to 6: where blobs came from.
pub(super) const ORIGINS: &str = "
CREATE TABLE origins (
    blob       BLOB NOT NULL,
    repository TEXT NOT NULL,
    seen       INTEGER NOT NULL,
    PRIMARY KEY (blob, repository)
) WITHOUT ROWID;
";

/// Version 6 to 7: what a record's step used.
pub(super) const RESOURCES: &str = "
ALTER TABLE records ADD COLUMN resources TEXT;
";

/// Version 7 to 8: what layers hold that a copy wrote.
pub(super) const CONTENTS: &str = "
CREATE TABLE layer_contents (
    layer INTEGER PRIMARY KEY,
    files BLOB NOT NULL
);
CREATE TRIGGER layers_gone AFTER DELETE ON layers BEGIN
    DELETE FROM layer_contents WHERE layer = old.id;
END;
";

/// Version 3 to 4: what keys were made of is apart from the records, records are found by their text,
/// builds are noted, and cache mounts that a power cut may have damaged are known.
pub(super) const PARTS: &str = "
CREATE TABLE record_parts (
    seq   INTEGER PRIMARY KEY,
    parts TEXT NOT NULL
);
INSERT INTO record_parts SELECT seq, parts FROM records;
ALTER TABLE records DROP COLUMN parts;
CREATE TRIGGER records_gone AFTER DELETE ON records BEGIN
    DELETE FROM record_parts WHERE seq = old.seq;
END;
CREATE INDEX records_text ON records (substr(text, 1, 64));
CREATE TABLE builds (
    name  TEXT PRIMARY KEY,
    at    INTEGER NOT NULL,
    layer INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX builds_at ON builds (at);
ALTER TABLE mounts ADD COLUMN boot TEXT;
";

/// Version 2 to 3: the whole stack that a record's step ran on, what it read besides, and digests of
/// files that were read in layers.
pub(super) const STACKS: &str = "
ALTER TABLE records ADD COLUMN stack BLOB;
ALTER TABLE records ADD COLUMN inputs BLOB;
ALTER TABLE records ADD COLUMN selection BLOB;
CREATE TABLE layer_files (
    layer  INTEGER NOT NULL,
    path   BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (layer, path)
) WITHOUT ROWID;
";

/// Version 1 to 2: pins, a log of what was pruned, and when a record's step was last really run.
pub(super) const PINS: &str = "
ALTER TABLE records ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
UPDATE records SET made = created;
CREATE TABLE pins (
    id      TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pruned (
    key  BLOB PRIMARY KEY,
    at   INTEGER NOT NULL,
    why  TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX pruned_at ON pruned (at);
";
