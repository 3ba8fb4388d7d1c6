-- The layout of a pocoflow database, version 2 (PRAGMA user_version).
--
-- A commit of a run appends one row to pf_log, and its changes of the store to pf_value. What can be
-- derived is a view: pf_runs, pf_events and pf_checkpoints have the documented columns. Ids that combine
-- the run's number and a sequence need no second index.

-- The graphs of flows: nodes, actions, edges, schema, as JSON, stored once for all of their runs.
CREATE TABLE pf_graphs (
    graph_no INTEGER PRIMARY KEY,
    graph    TEXT NOT NULL UNIQUE
);

-- One row per execution of a flow, written when its status changes. run_no is the order of creation,
-- independent of the clock; the number of a removed run is never assigned again. owned: the run was
-- started by a process that holds the lock of the run while it lives, so a reader can tell a live run
-- from a dead one. fence rises with every claim; a commit under an older number is refused. token: 128
-- random bits, the base of idempotency keys. thread: the run thread of its flow that it belongs to.
-- inputs: a digest of its inputs, for a run whose id was given; empty if they could not be stored.
-- due_at: since when a worker may take a run that is queued or paused: a paused run is due when it is
-- answered, or its question has passed its deadline. A queued run without it waits for a resume.
CREATE TABLE pf_run (
    run_no           INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id           TEXT NOT NULL UNIQUE,
    flow_name        TEXT NOT NULL DEFAULT '',
    status           TEXT NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')
    ),
    started_at       TEXT,
    completed_at     TEXT,
    due_at           TEXT,
    total_steps      INTEGER NOT NULL DEFAULT 0,
    current_node     TEXT,
    error_msg        TEXT,
    error_type       TEXT,
    traceback        TEXT,
    owned            INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    token            TEXT NOT NULL DEFAULT '',
    store_name       TEXT NOT NULL DEFAULT '',
    parent_run_id    TEXT,
    parent_step      INTEGER,
    graph_no         INTEGER REFERENCES pf_graphs (graph_no),
    thread           TEXT,
    inputs           TEXT
);

CREATE INDEX pf_run_by_status ON pf_run (status, run_no);

CREATE INDEX pf_run_by_flow ON pf_run (flow_name, status);

CREATE INDEX pf_run_due ON pf_run (flow_name, due_at)
WHERE due_at IS NOT NULL AND status IN ('queued', 'paused');

CREATE INDEX pf_run_interrupted ON pf_run (flow_name)
WHERE status = 'failed' AND error_type = 'Interrupted';

CREATE INDEX pf_run_by_parent ON pf_run (parent_run_id) WHERE parent_run_id IS NOT NULL;

CREATE INDEX pf_run_by_thread ON pf_run (thread, run_no) WHERE thread IS NOT NULL;

-- The runs that prevent others of their run thread from starting.
CREATE INDEX pf_run_open ON pf_run (thread) WHERE thread IS NOT NULL AND (
    status IN ('queued', 'running', 'paused')
    OR (status = 'failed' AND error_type = 'Interrupted')
);

-- The labels of runs.
CREATE TABLE pf_labels (
    run_no INTEGER NOT NULL REFERENCES pf_run (run_no) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (run_no, key)
) WITHOUT ROWID;

CREATE INDEX pf_labels_by_value ON pf_labels (key, value, run_no);

-- The log of the runs, one row per commit. id is run_no * 2^32 + a sequence that only grows. kind is
-- one of those in log.py. line is the number of the line of execution in the run: 0 is the run itself,
-- the others are its parallel branches. steps is the number of committed steps of the run, including
-- this one; step is the number of the step or, for an unfinished one, the number of earlier steps of its
-- line. at is in microseconds since 1970, 0 if unknown. node is the node's name or, inside flows or
-- branches, a readable form of all the names; path then holds the names, as a JSON list. next_node and
-- next_path name the next node of the line: an empty node is its end. There mark says how often edges
-- with limits were taken: a JSON list of lists, each with the number of flows and branches around the
-- edge, the name of its source, its action, and the count; for an item, mark identifies it. data is the
-- text of a result or of what prep returned; for the start of a branch it is a list: the line that it
-- branched off, the number of the step there, and the number of the branch in that step. A result is
-- replaced by the row of its step, or removed with it; so are journaled calls, whose note identifies the
-- call, and whose data is what it returned (after a ~ if that was awaited), or NULL if it will be
-- repeated.
-- Emitted values are a list; the row uses as many ids as it has values, and has the last of them. event
-- is then the phase that emitted them, note the journaled call in which it did, and mark is void once the
-- attempt was abandoned and the next one started; then a separate row records that, whose data has the
-- numbers of the first and last event of each of these rows.
-- Rows of expenses are never removed: data is an object of amounts, as text, by name; null is for a
-- budget that no longer binds the line, as it has taken the edge for its exhaustion.
CREATE TABLE pf_log (
    id         INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL,
    line       INTEGER NOT NULL,
    steps      INTEGER NOT NULL,
    step       INTEGER,
    item       INTEGER,
    at         INTEGER NOT NULL,
    node       TEXT,
    path       TEXT,
    action     TEXT,
    elapsed    INTEGER,
    attempt    INTEGER,
    next_node  TEXT,
    next_path  TEXT,
    event      TEXT,
    note       TEXT,
    error_type TEXT,
    error_msg  TEXT,
    traceback  TEXT,
    mark       TEXT,
    data       TEXT
);

CREATE INDEX pf_log_spent ON pf_log (id) WHERE kind = 19;

-- The keys that the store of a line has ever had, numbered in the run in order of appearance.
CREATE TABLE pf_key (
    run_no INTEGER NOT NULL,
    key_no INTEGER NOT NULL,
    line   INTEGER NOT NULL,
    key    TEXT NOT NULL,
    PRIMARY KEY (run_no, key_no)
) WITHOUT ROWID;

-- The changes of a step; step -1 is the store before the first node. op 0: value is the whole value.
-- op 1: value is a list of the elements that were appended to the list, or the text that was appended to
-- the text. op 2: the key was deleted. op 3: the value could not be stored; value is the list [type,
-- reason]. op 4: value is a list of changes inside the value, each a list [path, operation, value]: the
-- path has keys and indexes in the stored form of the value; the operation is set, append (elements, or
-- text), splice (its value is the start, the number of removed elements and a list of inserted ones) or
-- delete (a key). A value that does not fit into a page of this table is in pf_blob, whose rows may be
-- four times as long.
CREATE TABLE pf_value (
    run_no INTEGER NOT NULL,
    key_no INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    op     INTEGER NOT NULL CHECK (op BETWEEN 0 AND 4),
    value  TEXT,
    blob   INTEGER,
    PRIMARY KEY (run_no, key_no, step)
) WITHOUT ROWID;

-- Long values. id is run_no * 2^32 + a sequence.
CREATE TABLE pf_blob (
    id    INTEGER PRIMARY KEY,
    value TEXT NOT NULL
);

-- The questions of runs, and their answers. line, step and item identify the step that asked; path holds
-- the names of the enclosing flows and branches, and of the node, as a JSON list. answer_schema is the
-- JSON schema of an answer, default_answer and answer are JSON. taken: a resume has used the answer, or
-- the default after the deadline. closed: the step is finished, with or without the answer.
CREATE TABLE pf_questions (
    question       INTEGER PRIMARY KEY AUTOINCREMENT,
    run_no         INTEGER NOT NULL REFERENCES pf_run (run_no) ON DELETE CASCADE,
    line           INTEGER NOT NULL DEFAULT 0,
    step           INTEGER NOT NULL,
    item           INTEGER NOT NULL DEFAULT -1,
    path           TEXT NOT NULL,
    text           TEXT NOT NULL,
    context        TEXT NOT NULL DEFAULT '{}',
    answer_schema  TEXT NOT NULL DEFAULT '{}',
    asked_at       TEXT NOT NULL,
    deadline       TEXT,
    default_answer TEXT,
    answer         TEXT,
    answered_by    TEXT,
    answered_at    TEXT,
    taken          INTEGER NOT NULL DEFAULT 0,
    closed         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (run_no, line, step, item)
);

CREATE INDEX pf_questions_open ON pf_questions (run_no) WHERE closed = 0;

-- The schedules of flows, as in the code of the last worker that started. next_at is the time of the
-- first occurrence without a run; the transaction that creates the run also advances it.
CREATE TABLE pf_schedules (
    flow_name  TEXT NOT NULL,
    name       TEXT NOT NULL,
    expression TEXT NOT NULL,
    tz         TEXT NOT NULL,
    next_at    TEXT NOT NULL,
    PRIMARY KEY (flow_name, name)
) WITHOUT ROWID;

-- The time up to which the started queued runs of each value of a label have used its rate, in
-- microseconds since 1970. A row whose time has passed has no effect.
CREATE TABLE pf_rates (
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (key, value)
) WITHOUT ROWID;

CREATE TRIGGER pf_run_delete AFTER DELETE ON pf_run BEGIN
    DELETE FROM pf_log WHERE id BETWEEN old.run_no << 32 AND (old.run_no + 1 << 32) - 1;
    DELETE FROM pf_blob WHERE id BETWEEN old.run_no << 32 AND (old.run_no + 1 << 32) - 1;
    DELETE FROM pf_value WHERE run_no = old.run_no;
    DELETE FROM pf_key WHERE run_no = old.run_no;
END;

-- The runs. The progress of a run at work is read from its log.
CREATE VIEW pf_runs AS
SELECT
    run_id, flow_name, status, started_at, completed_at,
    CASE WHEN owned AND status = 'running' THEN coalesce((
        SELECT l.steps FROM pf_log AS l
        WHERE l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1 ORDER BY l.id DESC LIMIT 1
    ), total_steps) ELSE total_steps END AS total_steps,
    CASE WHEN owned AND status = 'running' THEN coalesce((
        SELECT coalesce(nullif(l.next_node, ''), l.node) FROM pf_log AS l
        WHERE l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1 
            AND coalesce(nullif(l.next_node, ''), l.node) IS NOT NULL ORDER BY l.id DESC LIMIT 1
    ), current_node) ELSE current_node END AS current_node,
    error_msg, error_type, traceback, run_no, owned, token, store_name, cancel_requested,
    parent_run_id, parent_step, graph_no, fence, thread, due_at
FROM pf_run AS r;

-- The same for lists, which only have the beginnings of long texts.
CREATE VIEW pf_listed AS
SELECT
    run_id, flow_name, status, started_at, completed_at, total_steps,
    substr(current_node, 1, 1000) AS current_node, substr(error_msg, 1, 20000) AS error_msg,
    error_type, substr(traceback, 1, 20000) AS traceback, run_no, owned, fence, token, store_name,
    cancel_requested, parent_run_id, parent_step, graph_no, thread, due_at
FROM pf_runs;

-- The log with the times of its rows as text; a generated column of pf_log would be computed on each
-- write.
CREATE VIEW pf_rows AS
SELECT
    *,
    iif(at = 0, '',
        strftime('%Y-%m-%dT%H:%M:%S', at / 1000000, 'unixepoch')
        || iif(at % 1000000, printf('.%06d', at % 1000000), '') || '+00:00'
    ) AS ts
FROM pf_log;

-- The events. A row of the log is one or two events: the second is a start, or an end, that it implies.
CREATE VIEW pf_events AS
SELECT
    l.id * 2 AS id,
    r.run_id AS run_id,
    iif(l.kind = 0, 0, l.step) AS step,
    l.node AS node_name,
    CASE l.kind
        WHEN 0 THEN 'flow_start' WHEN 1 THEN 'node_end' WHEN 2 THEN 'node_error'
        WHEN 7 THEN 'node_retry' WHEN 8 THEN 'node_ask' WHEN 9 THEN 'node_start'
        WHEN 10 THEN 'flow_pause' WHEN 11 THEN 'flow_resume'
        WHEN 12 THEN iif(l.node IS NULL, 'flow_error', 'node_error')
        WHEN 13 THEN 'flow_cancelled' ELSE coalesce(l.event, '')
    END AS event,
    l.action AS action,
    l.elapsed / 1000.0 AS elapsed_ms,
    iif(l.kind = 7 AND l.item IS NOT NULL, 'item ' || l.item || ': ', '') || l.error_msg
        AS error_msg,
    l.ts AS ts,
    l.attempt AS attempt,
    l.error_type AS error_type,
    l.traceback AS traceback,
    l.path AS path,
    l.note AS note
FROM pf_run AS r JOIN pf_rows AS l ON l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1
WHERE l.kind NOT IN (3, 4, 5, 6, 15, 16, 18, 19, 20, 21)
UNION ALL
SELECT
    l.id * 2 + 1,
    r.run_id,
    CASE l.kind WHEN 11 THEN l.step WHEN 12 THEN l.steps ELSE l.step + 1 END,
    iif(l.kind = 12, NULL, nullif(l.next_node, '')),
    CASE WHEN l.kind = 12 THEN 'flow_error' WHEN l.next_node = '' THEN 'flow_end'
        ELSE 'node_start' END,
    NULL,
    NULL,
    iif(l.kind = 12, l.error_msg, NULL),
    l.ts,
    NULL,
    iif(l.kind = 12, l.error_type, NULL),
    iif(l.kind = 12, l.traceback, NULL),
    iif(l.kind = 12, NULL, l.next_path),
    NULL
FROM pf_run AS r JOIN pf_rows AS l ON l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1
WHERE (l.kind = 12 AND l.node IS NOT NULL)
    OR (l.kind IN (0, 1, 2, 11) AND (l.next_node <> '' OR (l.next_node = '' AND l.line = 0)));

-- The changes of the store with their values, wherever these are stored.
CREATE VIEW pf_values AS
SELECT
    run_no, key_no, step, op,
    iif(blob IS NULL, value, (SELECT b.value FROM pf_blob AS b WHERE b.id = blob)) AS value
FROM pf_value;

-- The store after each step as one JSON object. A list consists of its stored elements and all that were
-- appended since, concatenated as text, so that no number or string is rewritten; so does a text. A
-- value that was changed inside is an object of $type changed, with the whole value and the changes
-- since: keys may be anything, which JSON paths of SQL do not support.
CREATE VIEW pf_checkpoints AS
SELECT
    r.run_no * 4294967296 + s.step AS id,
    r.run_id AS run_id,
    s.step AS step,
    s.node AS node_name,
    (
        SELECT json_group_object(key, json(value)) FROM (
            SELECT
                k.key AS key,
                CASE b.op
                    WHEN 3 THEN json_object('$type', 'not saved', 'value', json(b.value))
                    ELSE CASE (
                        SELECT max(t.op) FROM pf_value AS t
                        WHERE t.run_no = r.run_no AND t.key_no = k.key_no
                            AND t.step > b.step AND t.step <= s.step
                    )
                        WHEN 1 THEN (
                            SELECT substr(b.value, 1, 1) || group_concat(
                                nullif(substr(t.value, 2, length(t.value) - 2), ''),
                                iif(substr(b.value, 1, 1) = '"', '', ',')
                            ) || substr(b.value, -1)
                            FROM (
                                SELECT value FROM pf_values
                                WHERE run_no = r.run_no AND key_no = k.key_no
                                    AND step >= b.step AND step <= s.step
                                ORDER BY step
                            ) AS t
                        )
                        WHEN 4 THEN (
                            SELECT json_object(
                                '$type', 'changed', 'value', json(b.value), 'changes',
                                json('[' || group_concat(iif(
                                    t.op = 1,
                                    '[[],"append",' || t.value || ']',
                                    substr(t.value, 2, length(t.value) - 2)
                                )) || ']')
                            )
                            FROM (
                                SELECT op, value FROM pf_values
                                WHERE run_no = r.run_no AND key_no = k.key_no
                                    AND step > b.step AND step <= s.step
                                ORDER BY step
                            ) AS t
                        )
                        ELSE b.value
                    END
                END AS value
            FROM pf_key AS k
            JOIN pf_values AS b ON b.run_no = k.run_no AND b.key_no = k.key_no AND b.step = (
                SELECT step FROM pf_value
                WHERE run_no = k.run_no AND key_no = k.key_no AND step <= s.step AND op NOT IN (1, 4)
                ORDER BY step DESC LIMIT 1
            )
            WHERE k.run_no = r.run_no AND k.line = 0 AND b.op <> 2
            ORDER BY k.key_no
        )
    ) AS store_json,
    s.ts AS created_at
FROM pf_run AS r JOIN pf_rows AS s
    ON s.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1
WHERE s.kind IN (1, 2, 15) AND s.step >= 0;
