-- The layout of a pocoflow database, version 1 (PRAGMA user_version).
--
-- pf_runs and pf_events are tables, pf_checkpoints is a view: a checkpoint is stored as what its
-- step changed (pf_steps, pf_keys, pf_values), and the view puts the whole store together for
-- whoever reads it. Times are ISO-8601 text in UTC. Integer keys that hold the run's number and a
-- sequence in one need no second index.

-- What a run's flow looked like: nodes, actions, edges, schema, as JSON, once for all runs of it.
CREATE TABLE pf_graphs (
    graph_no INTEGER PRIMARY KEY,
    graph    TEXT NOT NULL UNIQUE
);

-- One row per execution of a flow. run_no is the order of creation, whatever the clock says.
-- owned: the run was started by a process that holds the lock of this run while it lives, so a
-- reader can tell a live run from a dead one. fence: rises with every claim; a commit of whoever
-- claimed the run earlier is refused. token: 128 random bits, the stem of idempotency keys.
-- The number of a run that was removed is never given to another one, nor is that of a question:
-- whoever still has it must not come upon something else.
CREATE TABLE pf_runs (
    run_id           TEXT NOT NULL UNIQUE,
    flow_name        TEXT NOT NULL DEFAULT '',
    status           TEXT NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')
    ),
    started_at       TEXT,
    completed_at     TEXT,
    total_steps      INTEGER NOT NULL DEFAULT 0,
    current_node     TEXT,
    error_msg        TEXT,
    error_type       TEXT,
    traceback        TEXT,
    run_no           INTEGER PRIMARY KEY AUTOINCREMENT,
    owned            INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER NOT NULL DEFAULT 0,
    token            TEXT NOT NULL DEFAULT '',
    store_name       TEXT NOT NULL DEFAULT '',
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    parent_run_id    TEXT,
    parent_step      INTEGER,
    graph_no         INTEGER REFERENCES pf_graphs (graph_no)
);

CREATE INDEX pf_runs_by_status ON pf_runs (status, run_no);

CREATE INDEX pf_runs_by_flow ON pf_runs (flow_name, status);

CREATE INDEX pf_runs_by_parent ON pf_runs (parent_run_id) WHERE parent_run_id IS NOT NULL;

-- The ordered event log. id is run_no * 2^32 + sequence. node_name is for people; path has the names
-- of which it is made where there are several, as in pf_questions.
CREATE TABLE pf_events (
    id         INTEGER PRIMARY KEY,
    run_id     TEXT NOT NULL,
    step       INTEGER,
    node_name  TEXT,
    event      TEXT NOT NULL,
    action     TEXT,
    elapsed_ms REAL,
    error_msg  TEXT,
    ts         TEXT NOT NULL,
    attempt    INTEGER,
    error_type TEXT,
    traceback  TEXT,
    path       TEXT
);

-- One row per finished step; step -1 is the store before the first node.
CREATE TABLE pf_steps (
    run_no     INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    step       INTEGER NOT NULL,
    node_name  TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (run_no, step)
) WITHOUT ROWID;

-- The keys that a run's store has ever had, numbered in the order of their appearance. scope is
-- empty for the store of the run. A parallel branch has a store of its own until it is merged, under
-- the scope FORK.BRANCH: '12.0' is the first branch of the node that began as step 12, and
-- '12.0/3.1' the second branch of what that branch ran as its step 3.
CREATE TABLE pf_keys (
    run_no INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    key_no INTEGER NOT NULL,
    key    TEXT NOT NULL,
    scope  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run_no, key_no)
) WITHOUT ROWID;

-- What a step changed. op 0: value is the whole value. op 1: value is a list of the elements that
-- were appended to the list. op 2: the key was deleted. op 3: the value could not be stored; value
-- is the list [type, reason].
CREATE TABLE pf_values (
    run_no INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    key_no INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    op     INTEGER NOT NULL CHECK (op BETWEEN 0 AND 3),
    value  TEXT,
    PRIMARY KEY (run_no, key_no, step)
) WITHOUT ROWID;

-- Where the run goes on: what a step was followed by, in its own scope. What is pending after a step
-- is the last row of the run's own scope ('') and, where it is a parallel node, the last row of each
-- of its branches; a branch whose node is empty is at its end. count numbers the steps of the scope.
-- path holds the names of the flow nodes around the node, as a JSON list; action led there.
CREATE TABLE pf_positions (
    run_no INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    step   INTEGER NOT NULL,
    scope  TEXT NOT NULL DEFAULT '',
    count  INTEGER NOT NULL,
    path   TEXT NOT NULL DEFAULT '[]',
    node   TEXT NOT NULL,
    phase  TEXT NOT NULL DEFAULT 'prep',
    item   INTEGER,
    action TEXT,
    PRIMARY KEY (run_no, step, scope)
) WITHOUT ROWID;

-- Results of exec that are finished but not yet part of a committed step: after a crash they are
-- taken from here instead of being paid for again. The commit of their step removes them. step is
-- the step's number, in a parallel branch its number among the steps of the scope. digest is a hash
-- of the item that the result is of, with a number behind it for each further one that is equal;
-- empty if the item cannot be stored.
CREATE TABLE pf_journal (
    run_no INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    scope  TEXT NOT NULL DEFAULT '',
    step   INTEGER NOT NULL,
    item   INTEGER NOT NULL DEFAULT -1,
    value  TEXT NOT NULL,
    digest TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run_no, scope, step, item)
) WITHOUT ROWID;

-- What the other items were of which something is kept until their step is committed: a question, a
-- branch, the number of attempts of exec that have failed. Columns as in pf_journal.
CREATE TABLE pf_items (
    run_no   INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    scope    TEXT NOT NULL DEFAULT '',
    step     INTEGER NOT NULL,
    item     INTEGER NOT NULL,
    digest   TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_no, scope, step, item)
) WITHOUT ROWID;

-- What runs have asked, and what was answered. scope, step and item are those of pf_journal; path
-- holds the names of the flows and branches around the node, and its own, as a JSON list.
-- answer_schema is the JSON schema of an answer, default_answer and answer are JSON. taken: a resume
-- has gone on with the answer, or with none after the deadline. closed: the step is finished, with or
-- without the answer.
CREATE TABLE pf_questions (
    question       INTEGER PRIMARY KEY AUTOINCREMENT,
    run_no         INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    scope          TEXT NOT NULL DEFAULT '',
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
    UNIQUE (run_no, scope, step, item)
);

CREATE INDEX pf_questions_open ON pf_questions (run_no) WHERE closed = 0;

-- What a node had done before the first row of its step was written (a question, a failed attempt, the
-- result of an item), until the step is finished: what its prep returned, encoded, and what it had
-- changed in the store, a JSON list of [key, op, value] as in pf_values.
CREATE TABLE pf_pauses (
    run_no   INTEGER NOT NULL REFERENCES pf_runs (run_no) ON DELETE CASCADE,
    scope    TEXT NOT NULL DEFAULT '',
    step     INTEGER NOT NULL,
    prepared TEXT NOT NULL,
    changes  TEXT NOT NULL DEFAULT '[]',
    PRIMARY KEY (run_no, scope, step)
) WITHOUT ROWID;

CREATE TRIGGER pf_runs_delete AFTER DELETE ON pf_runs BEGIN
    DELETE FROM pf_events WHERE id BETWEEN old.run_no << 32 AND (old.run_no + 1 << 32) - 1;
END;

-- The store after each step as one JSON object. A list is its stored elements and all that was
-- appended since, put together as text, so that no number or string is rewritten on the way.
CREATE VIEW pf_checkpoints AS
SELECT
    s.run_no * 4294967296 + s.step AS id,
    r.run_id AS run_id,
    s.step AS step,
    s.node_name AS node_name,
    (
        SELECT json_group_object(key, json(value)) FROM (
            SELECT
                k.key AS key,
                CASE b.op
                    WHEN 3 THEN json_object('$type', 'not saved', 'value', json(b.value))
                    ELSE CASE
                        WHEN b.step < s.step AND EXISTS (
                            SELECT 1 FROM pf_values AS t
                            WHERE t.run_no = s.run_no AND t.key_no = k.key_no
                                AND t.step > b.step AND t.step <= s.step
                        ) THEN '[' || (
                            SELECT group_concat(nullif(substr(t.value, 2, length(t.value) - 2), ''))
                            FROM (
                                SELECT value FROM pf_values
                                WHERE run_no = s.run_no AND key_no = k.key_no
                                    AND step >= b.step AND step <= s.step
                                ORDER BY step
                            ) AS t
                        ) || ']'
                        ELSE b.value
                    END
                END AS value
            FROM pf_keys AS k
            JOIN pf_values AS b ON b.run_no = k.run_no AND b.key_no = k.key_no AND b.step = (
                SELECT step FROM pf_values
                WHERE run_no = k.run_no AND key_no = k.key_no AND step <= s.step AND op <> 1
                ORDER BY step DESC LIMIT 1
            )
            WHERE k.run_no = s.run_no AND k.scope = '' AND b.op <> 2
            ORDER BY k.key_no
        )
    ) AS store_json,
    s.created_at AS created_at
FROM pf_steps AS s JOIN pf_runs AS r ON r.run_no = s.run_no
WHERE s.step >= 0;
