-- One row per event. Ids rise in log order. Columns that filters read come
-- first, so that a filter need not read the rest of a long row. There is no
-- index beside the key: table zones and the search index stand in for them.
CREATE TABLE events (
  id       INTEGER PRIMARY KEY,
  at       INTEGER NOT NULL, -- ns since 1970
  kind     INTEGER NOT NULL,
  severity INTEGER NOT NULL,
  rule     INTEGER NOT NULL, -- number of the de-duplication rule, times 2, plus 1 in window mode
  source   BLOB    NOT NULL, -- 4 or 16 bytes
  key      BLOB    NOT NULL, -- 16 bytes
  sum      INTEGER NOT NULL, -- CRC-32C of the columns before, shifted by 32, and of trap
  state    BLOB    NOT NULL, -- receipts, fixed length: an update happens in place
  trap     BLOB    NOT NULL
);

-- Zone map: what can be found in events block*2048 to block*2048+2047.
CREATE TABLE zones (
  block      INTEGER PRIMARY KEY,
  lo         INTEGER NOT NULL, -- least and greatest at
  hi         INTEGER NOT NULL,
  kinds      INTEGER NOT NULL, -- bit sets
  severities INTEGER NOT NULL
);

-- How far each spool has been applied.
CREATE TABLE spool_marks (
  member    TEXT    NOT NULL,
  spool     BLOB    NOT NULL, -- 16 bytes
  seq       INTEGER NOT NULL,
  watermark INTEGER NOT NULL, -- ns since 1970
  current   INTEGER NOT NULL, -- 1 for the spool in use
  sum       INTEGER NOT NULL,
  PRIMARY KEY (member, spool)
) WITHOUT ROWID;

-- Results of proposals, so that a repetition gets the same answer.
CREATE TABLE proposals (
  id     BLOB    NOT NULL PRIMARY KEY, -- 16 bytes
  at     INTEGER NOT NULL,             -- ns since 1970, log time
  result BLOB    NOT NULL,
  sum    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX proposals_at ON proposals (at);

-- Settings, users, tokens and de-duplication rules, as JSON documents.
CREATE TABLE docs (
  class TEXT    NOT NULL, -- 'settings', 'user', 'token', 'rule'
  name  TEXT    NOT NULL,
  doc   BLOB    NOT NULL,
  sum   INTEGER NOT NULL,
  PRIMARY KEY (class, name)
) WITHOUT ROWID;

-- The one row that every transaction writes.
CREATE TABLE applied (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  log_index  INTEGER NOT NULL,
  term       INTEGER NOT NULL,
  hash       BLOB    NOT NULL, -- 32 bytes
  log_time   INTEGER NOT NULL, -- ns since 1970
  horizon    INTEGER NOT NULL, -- events below it are closed for de-duplication
  next_event INTEGER NOT NULL,
  sum        INTEGER NOT NULL
);

-- State of parts of the state machine that have their own encoding.
CREATE TABLE state (
  name  TEXT    NOT NULL PRIMARY KEY,
  value BLOB    NOT NULL,
  sum   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE meta (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
