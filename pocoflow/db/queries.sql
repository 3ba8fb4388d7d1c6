-- Every statement that WorkflowDB and a run's recorder execute, by name.

-- Parts of them, which they name in braces: of run r its labels, whether it has those that are wanted,
-- whether it is one for a list, or of a flow and run thread, whether it is open, whether it has a row to
-- go on from, and whether it has a label that is held; lists that are given; how long the list of
-- a row is; an index that is to be used; of key k the step of its last whole value.

-- part: labels
(SELECT json_group_object(key, value) FROM pf_labels AS l WHERE l.run_no = r.run_no) AS labels

-- part: has_labels
NOT EXISTS (
    SELECT 1 FROM json_each(:labels) AS w WHERE NOT EXISTS (
        SELECT 1 FROM pf_labels AS l
        WHERE l.run_no = r.run_no AND l.key = w.key AND l.value = w.value
    )
)

-- part: matches
(:status IS NULL OR status IN (:status, :or_status))
    AND (:flow IS NULL OR flow_name = :flow)
    AND (:thread IS NULL OR thread = :thread)
    AND (:since IS NULL OR started_at >= :since)
    AND (:text IS NULL OR instr(lower(
        run_id || char(10) || flow_name || char(10) || coalesce(current_node, '') || char(10)
        || coalesce(error_type, '') || char(10) || coalesce(error_msg, '') || char(10)
        || coalesce(parent_run_id, '') || char(10) || coalesce(thread, '')
    ), lower(:text)))

-- part: of_flow
(:flow IS NULL OR flow_name = :flow) AND (:thread IS NULL OR thread = :thread)

-- part: is_open
(status IN ('queued', 'running', 'paused') OR (status = 'failed' AND error_type = 'Interrupted'))

-- part: has_start
EXISTS (
    SELECT 1 FROM pf_log AS l
    WHERE l.id >= r.run_no << 32 AND l.id < r.run_no + 1 << 32 AND l.kind IN (0, 16)
)

-- part: held
EXISTS (
    SELECT 1 FROM json_each(:held) AS h JOIN pf_labels AS l ON l.run_no = r.run_no
        AND l.key = json_extract(h.value, '$[0]') AND l.value = json_extract(h.value, '$[1]')
    WHERE json_extract(h.value, '$[2]') = 0 OR r.status = 'queued'
)

-- part: flows
(SELECT value FROM json_each(:flows))

-- part: open
(SELECT value FROM json_each(:open))

-- part: length_of_data
json_array_length(data)

-- part: by_spending
INDEXED BY pf_log_spent

-- part: by_interruption
INDEXED BY pf_run_interrupted

-- part: last_whole
(
    SELECT b.step FROM pf_value AS b
    WHERE b.run_no = k.run_no AND b.key_no = k.key_no AND b.step <= :step AND b.op NOT IN (1, 4)
    ORDER BY b.step DESC LIMIT 1
)

-- name: insert_run
INSERT INTO pf_run (
    run_id, flow_name, status, started_at, due_at, current_node, owned, fence, token, store_name,
    parent_run_id, parent_step, graph_no, thread, inputs
) VALUES (
    :run_id, :flow_name, :status, :started_at, :due_at, :current_node, :owned, :fence, :token,
    :store_name, :parent_run_id, :parent_step, :graph_no, :thread, :inputs
) ON CONFLICT (run_id) DO NOTHING;

-- name: insert_label
INSERT INTO pf_labels (run_no, key, value) VALUES (?, ?, ?);

-- name: open_labelled
-- How many runs are open that have a label.
SELECT count(*) FROM pf_labels AS l JOIN pf_run AS r ON r.run_no = l.run_no
WHERE l.key = ? AND l.value = ? AND {is_open};

-- name: open_in_thread
-- A run that keeps others of its run thread from beginning.
SELECT run_no, run_id, status, (
    SELECT count(*) FROM pf_questions AS q
    WHERE q.run_no = pf_run.run_no AND q.closed = 0 AND q.answer IS NULL
) AS unanswered FROM pf_run
WHERE thread = :thread AND flow_name IN {flows}
    AND {is_open} AND run_no <> :besides
ORDER BY run_no LIMIT 1;

-- name: last_completed
-- The run whose last store the next run of its run thread begins with.
SELECT run_no, run_id, total_steps FROM pf_run
WHERE thread = :thread AND flow_name IN {flows}
    AND status = 'completed'
ORDER BY run_no DESC LIMIT 1;

-- name: later_in_thread
-- A run that has begun after another one of its run thread.
SELECT run_id FROM pf_run
WHERE thread = :thread AND flow_name IN {flows}
    AND run_no > :run_no AND status <> 'queued'
LIMIT 1;

-- name: inputs_of_run
SELECT flow_name, inputs FROM pf_run WHERE run_id = ?;

-- name: insert_graph
INSERT INTO pf_graphs (graph) VALUES (?) ON CONFLICT (graph) DO NOTHING;

-- name: graph_number
SELECT graph_no FROM pf_graphs WHERE graph = ?;

-- name: graph_of_run
SELECT g.graph FROM pf_graphs AS g JOIN pf_run AS r ON r.graph_no = g.graph_no WHERE r.run_id = ?;

-- name: runs_beginning
SELECT run_id FROM pf_run WHERE substr(run_id, 1, length(:text)) = :text
ORDER BY run_no DESC LIMIT :limit;

-- name: insert_question
INSERT INTO pf_questions (
    run_no, line, step, item, path, text, context, answer_schema, asked_at, deadline,
    default_answer
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: questions_of_run
SELECT q.*, r.run_id, r.flow_name FROM pf_questions AS q JOIN pf_run AS r ON r.run_no = q.run_no
WHERE q.run_no = ? ORDER BY q.question;

-- name: open_questions
-- Those that wait for an answer, of runs that can still go on.
SELECT q.*, r.run_id, r.flow_name FROM pf_questions AS q JOIN pf_run AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
ORDER BY q.question;

-- name: answer_question
-- The first answer counts. Returns nothing if there was one, or the run has gone on without. One that
-- the node cannot take is replaced, if it is still there.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
    AND (SELECT status FROM pf_runs AS r WHERE r.run_no = pf_questions.run_no)
        NOT IN ('completed', 'cancelled')
RETURNING question;

-- name: settle_question
-- A default counts, also in a run that was cancelled: whoever goes on with it holds its lock.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
RETURNING question;

-- name: answered_run
-- A run that waits is due as soon as one of its questions is answered.
UPDATE pf_run SET due_at = ? WHERE run_no = ? AND status = 'paused';

-- name: take_answer
-- A run goes on with what this question has now: its answer, or none until its deadline.
UPDATE pf_questions SET taken = 1 WHERE question = ?;

-- name: open_in_run
SELECT question FROM pf_questions WHERE run_no = ? AND closed = 0 AND answer IS NULL
ORDER BY question;

-- name: open_by_run
-- How many questions wait for an answer, by the run that can still go on.
SELECT r.run_id, count(*) FROM pf_questions AS q JOIN pf_run AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
GROUP BY r.run_no;

-- name: close_questions
-- A step is finished: its questions, and those of the branches in it, wait for no answer any more.
WITH RECURSIVE begun AS (
    SELECT line, json_extract(data, '$[0]') AS parent FROM pf_log
    WHERE id > :since AND id < :last AND kind = 9
), inside (line) AS (
    SELECT :line UNION SELECT b.line FROM begun AS b JOIN inside AS i ON b.parent = i.line
)
UPDATE pf_questions SET closed = 1
WHERE run_no = :run_no AND closed = 0 AND (:line = 0 OR line IN (SELECT line FROM inside));

-- name: pause_run
-- A run is due again when a question has been answered meanwhile, or passes its deadline.
UPDATE pf_run SET
    status = 'paused', completed_at = NULL, total_steps = ?, current_node = ?, owned = 0,
    due_at = (
        SELECT min(coalesce(answered_at, deadline)) FROM pf_questions AS q
        WHERE q.run_no = pf_run.run_no AND q.closed = 0 AND q.taken = 0
    )
WHERE run_no = ?;

-- name: cancel_waiting
-- What nobody runs is cancelled at once: a run that is queued, paused or interrupted.
UPDATE pf_run SET status = 'cancelled', completed_at = ?, cancel_requested = 1
WHERE run_no = ? AND (
    status IN ('queued', 'paused') OR (status = 'failed' AND error_type = 'Interrupted')
) RETURNING total_steps;

-- name: runs_to_recover
-- Runs of a flow whose process may be gone, those that a reader has already found so, and those that
-- waited for an answer which is there, or will not come any more.
SELECT r.*, {labels} FROM pf_runs AS r WHERE flow_name = :flow AND (
    (status = 'running' AND owned = 1)
    OR (status = 'failed' AND error_type = 'Interrupted' AND {has_start})
    OR (status = 'paused' AND due_at <= :now)
)
ORDER BY run_no;

-- name: can_go_on
-- Whether a run, whose lock is held here, is one to recover, or a queued one that is due; a fork always
-- is.
SELECT 1 FROM pf_run AS r WHERE run_no = :run_no AND (
    (status = 'running' AND owned = 1)
    OR (status = 'failed' AND error_type = 'Interrupted' AND {has_start})
    OR (status = 'paused' AND due_at <= :now)
    OR (status = 'queued' AND coalesce(due_at, :now) <= :now)
);

-- name: run_by_id
SELECT r.*, {labels} FROM pf_runs AS r WHERE run_id = ?;

-- name: runs_newest_first
SELECT r.*, {labels} FROM pf_listed AS r ORDER BY run_no DESC LIMIT ?;

-- name: runs_matching
-- A page of the runs before one, newest first; NULL matches every status, flow, start, text or label.
SELECT r.*, {labels} FROM pf_listed AS r
WHERE run_no < :before
    AND {matches} AND {has_labels}
ORDER BY run_no DESC LIMIT :limit;

-- name: runs_of_status
-- The same of one status or two, by their index: each in its order, as sorting would read all of them.
SELECT * FROM (
    SELECT r.*, {labels} FROM pf_listed AS r
    WHERE status = :status AND run_no < :before AND {matches} AND {has_labels}
    ORDER BY run_no DESC LIMIT :limit
) AS a
UNION ALL
SELECT * FROM (
    SELECT r.*, {labels} FROM pf_listed AS r
    WHERE status = :or_status AND :or_status <> :status
        AND run_no < :before AND {matches} AND {has_labels}
    ORDER BY run_no DESC LIMIT :limit
) AS b
ORDER BY run_no DESC LIMIT :limit;

-- name: runs_of_thread
-- The same of a run thread, by its index.
SELECT r.*, {labels} FROM pf_listed AS r
WHERE thread = :thread AND run_no < :before
    AND {matches} AND {has_labels}
ORDER BY run_no DESC LIMIT :limit;

-- name: runs_labelled
-- The same of a label, by its index.
SELECT r.*, {labels} FROM pf_labels AS f CROSS JOIN pf_listed AS r ON r.run_no = f.run_no
WHERE f.key = :key AND f.value = :value AND f.run_no < :before
    AND {matches} AND {has_labels}
ORDER BY f.run_no DESC LIMIT :limit;

-- name: request_cancel
-- Ask whoever runs the run to stop after the step that it is at.
UPDATE pf_run SET cancel_requested = 1 WHERE run_id = ? AND status = 'running' RETURNING run_no;

-- name: counts_by_flow
-- How many runs of each status each flow has.
SELECT flow_name, status, count(*) AS runs FROM pf_run GROUP BY flow_name, status;

-- name: runs_with_owner
-- The runs that are stored as running and belong to a process, which may be gone.
SELECT run_no, flow_name FROM pf_run WHERE status = 'running' AND owned = 1;

-- name: forks_of_run
SELECT run_id, parent_step, status FROM pf_run WHERE parent_run_id = ? ORDER BY run_no;

-- name: standing
SELECT status, total_steps, cancel_requested FROM pf_run WHERE run_no = ?;

-- name: finish
-- The end of a run, whichever way, after the row of its log that says so, which has shown whose the run
-- is; the lock is given back after it.
UPDATE pf_run SET
    status = :status,
    completed_at = (
        SELECT l.ts FROM pf_rows AS l WHERE l.id >= :first AND l.id < :end ORDER BY l.id DESC LIMIT 1
    ),
    total_steps = (
        SELECT l.steps FROM pf_log AS l WHERE l.id >= :first AND l.id < :end ORDER BY l.id DESC LIMIT 1
    ),
    current_node = coalesce(
        :node, (SELECT v.current_node FROM pf_runs AS v WHERE v.run_no = :run_no)
    ), error_type = :error_type,
    error_msg = :error_msg, traceback = :traceback, owned = 0
WHERE run_no = :run_no;

-- name: interrupted
-- Persist what a reader derives: the process of this run is gone.
UPDATE pf_run SET
    status = 'failed', error_msg = :error_msg, error_type = :error_type, owned = 0,
    total_steps = (SELECT v.total_steps FROM pf_runs AS v WHERE v.run_no = :run_no),
    current_node = (SELECT v.current_node FROM pf_runs AS v WHERE v.run_no = :run_no)
WHERE run_no = :run_no AND status = 'running' AND owned = 1;

-- name: close_running
-- Rows that 0.2.1 left as running, of which no process is at work any more.
UPDATE pf_run SET status = 'failed', error_msg = ?, error_type = 'Interrupted'
WHERE status = 'running';

-- name: places_of_questions
SELECT question, path FROM pf_questions WHERE run_no = ? AND closed = 0;

-- name: rename_question
UPDATE pf_questions SET path = ? WHERE question = ?;

-- name: store_json
SELECT store_json FROM pf_checkpoints WHERE run_id = ? AND step = ?;

-- name: run_by_number
SELECT status, owned, run_no FROM pf_run WHERE run_no = ?;

-- name: delete_run
DELETE FROM pf_run WHERE run_no = ?;

-- name: claim
-- From here on, commits of whoever claimed the run before are refused. A clock in the number keeps it
-- apart from one that was given before an older copy of the file was restored.
UPDATE pf_run SET fence = max(fence + 1, ?) WHERE run_no = ? RETURNING fence;

-- name: resume_run
-- A run is at work again: only one that is not completed, by whoever holds its lock.
UPDATE pf_run SET
    status = 'running', owned = 1, completed_at = NULL, error_msg = NULL, error_type = NULL,
    traceback = NULL, cancel_requested = 0, flow_name = ?, current_node = ?, graph_no = ?,
    started_at = coalesce(started_at, ?)
WHERE run_no = ?;

-- name: end_step
-- The row of a finished step in the place of its result, if that is there and nothing came after it; not
-- if somebody else has the run, has asked it to stop or has taken it for interrupted. An empty text
-- stands for NULL here and in the next one: Python takes ten times as long to hand that over.
UPDATE pf_log SET
    kind = 1, line = ?, steps = ?, step = ?, at = ?, note = nullif(?, ''), node = ?,
    path = nullif(?, ''), action = ?, elapsed = ?, attempt = ?, next_node = ?,
    next_path = nullif(?, ''), mark = nullif(?, ''), data = nullif(?, '')
WHERE id = ? AND NOT EXISTS (SELECT 1 FROM pf_log WHERE id = ?) AND EXISTS (
    SELECT 1 FROM pf_run WHERE run_no = ? AND fence = ? AND cancel_requested = 0 AND owned = 1
);

-- name: append_step
-- The row of a finished step. Nothing is written if somebody else has the run, or the row before is not
-- there; nor, where the last but one parameter is 0, if somebody has asked the run to stop or has taken
-- it for interrupted: it has no kind then, which no row may lack.
INSERT OR IGNORE INTO pf_log (
    id, line, steps, step, at, note, node, path, action, elapsed, attempt, next_node, next_path, mark,
    data, error_type, error_msg, traceback, kind
) VALUES (
    (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, nullif(?, ''), ?, nullif(?, ''), ?, ?, ?, ?, nullif(?, ''), nullif(?, ''),
    nullif(?, ''), ?, ?, ?,
    (
        SELECT ? FROM pf_run
        WHERE run_no = ? AND fence = ? AND (? OR (cancel_requested = 0 AND owned = 1))
            AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?)
    )
);

-- name: append
-- Any other row of a run that this process has.
INSERT INTO pf_log (
    id, kind, line, steps, step, item, at, node, path, attempt, elapsed, next_node, next_path, note,
    error_type, error_msg, traceback, mark, data
)
SELECT
    (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM pf_run
WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?);

-- name: append_result
-- The row of a finished exec of a run that this process has.
INSERT OR IGNORE INTO pf_log (id, line, steps, step, at, node, data, kind) VALUES (
    (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, ?, ?,
    (
        SELECT 3 FROM pf_run
        WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?)
    )
);

-- name: append_emitted
-- Values that a node has emitted. The row takes as many numbers as there are values, and has the last.
INSERT INTO pf_log (
    id, kind, line, steps, step, item, at, node, path, attempt, event, note, data
)
SELECT
    ? + (SELECT id FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM pf_run
WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?);

-- name: mark_void
UPDATE pf_log SET mark = 'void' WHERE id = ?;

-- name: emitted_since
-- Values of steps that may not be finished, which no earlier attempt has left.
SELECT id, line, item, event, note, {length_of_data} AS size FROM pf_log
WHERE id > ? AND id < ? AND kind = 20 AND mark IS NULL ORDER BY id;

-- name: append_foreign
-- A row from whoever may not have the run: an event, an answer, a checkpoint.
INSERT INTO pf_log (
    id, kind, line, steps, step, at, node, path, action, elapsed, event, error_msg, note
) VALUES (
    (SELECT coalesce(max(id), :first) + 1 FROM pf_log WHERE id >= :first AND id < :end),
    :kind, 0,
    coalesce((SELECT steps FROM pf_log WHERE id >= :first AND id < :end ORDER BY id DESC LIMIT 1), 0),
    :step, :at, :node, :path, :action, :elapsed, :event, :message, :note
);

-- name: first_row
INSERT INTO pf_log (id, kind, line, steps, step, at, next_node, next_path, note, mark)
VALUES (?, ?, 0, 0, -1, ?, ?, ?, ?, ?);

-- name: last_row
SELECT id, steps, ts FROM pf_rows WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1;

-- name: remove_open
-- What was on record of a step that is finished now, and of the branches in it.
DELETE FROM pf_log WHERE id > ? AND id < ? AND kind IN (3, 4, 5, 6, 18) AND (line = ? OR ? = 0);

-- name: remove_input
-- The input of a step whose prep is to run again.
DELETE FROM pf_log WHERE id > ? AND id < ? AND line = ? AND kind = 6;

-- name: step_row
-- The row at or after a number that says how far the run was.
SELECT id, step, kind, steps FROM pf_log WHERE id >= ? AND id < ? ORDER BY id LIMIT 1;

-- name: find_step
SELECT id FROM pf_log
WHERE id >= ? AND id < ? AND step = ? AND kind IN (0, 1, 2, 15, 16) ORDER BY id DESC LIMIT 1;

-- name: last_step
SELECT max(step) AS step FROM pf_log WHERE id >= ? AND id < ? AND kind IN (0, 1, 2, 15, 16);

-- name: next_step
SELECT min(step) AS step FROM pf_log
WHERE id >= ? AND id < ? AND kind IN (0, 1, 2, 15) AND step > ?;

-- name: delete_step
DELETE FROM pf_log WHERE id >= ? AND id < ? AND step = ? AND kind = 15;

-- name: line_start
-- The last step of the run's own line at or before a row; what comes after it is not finished.
SELECT * FROM pf_log
WHERE id >= ? AND id <= ? AND line = 0 AND kind IN (0, 1, 2, 16) ORDER BY id DESC LIMIT 1;

-- name: rows_from
SELECT * FROM pf_rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?;

-- name: run_standing
SELECT status, error_type FROM pf_run WHERE run_no = ?;

-- name: rows_between
SELECT * FROM pf_log WHERE id > ? AND id <= ? ORDER BY id;

-- name: lines_of_run
SELECT id, line, data, node, path FROM pf_log WHERE id >= ? AND id < ? AND kind = 9;

-- name: steps_of_run
SELECT step, node, ts FROM pf_rows
WHERE id >= ? AND id < ? AND kind IN (1, 2, 15) AND step >= 0 ORDER BY step;

-- name: events_of_run
SELECT * FROM pf_events WHERE run_id = ? ORDER BY id;

-- name: claim_of_run
SELECT run_id, fence, cancel_requested, owned FROM pf_run WHERE run_no = ?;

-- name: works_on
-- A reader took the run for interrupted, and it is not.
UPDATE pf_run SET status = 'running', owned = 1, error_msg = NULL, error_type = NULL
WHERE run_no = ?;

-- name: items_on_record
SELECT count(*) FROM pf_log WHERE id >= ? AND id < ? AND kind = 4;

-- name: node_began
-- When the node that a run is at began.
SELECT ts FROM pf_rows WHERE id >= ? AND id < ? AND kind IN (0, 1, 2, 9, 11) ORDER BY id DESC LIMIT 1;

-- name: next_places
SELECT id, next_node, next_path, mark FROM pf_log
WHERE id >= ? AND id < ? AND next_node IS NOT NULL AND kind IN (0, 1, 2, 16);

-- name: rename_next
UPDATE pf_log SET next_node = ?, next_path = ?, mark = ? WHERE id = ?;

-- name: rename_begun
UPDATE pf_log SET node = ?, path = ? WHERE id = ?;

-- name: insert_key
INSERT INTO pf_key (run_no, key_no, line, key) VALUES (?, ?, ?, ?);

-- name: keys_of_run
SELECT key, key_no, line FROM pf_key WHERE run_no = ? ORDER BY key_no;

-- name: insert_value
INSERT INTO pf_value (run_no, key_no, step, op, value) VALUES (?, ?, ?, ?, ?);

-- name: insert_value_of_blob
-- Its value is the last one that was inserted there.
INSERT INTO pf_value (run_no, key_no, step, op, blob) VALUES (?, ?, ?, ?, last_insert_rowid());

-- name: insert_blob
INSERT INTO pf_blob (id, value) VALUES (
    (SELECT coalesce(max(id), :first) + 1 FROM pf_blob WHERE id >= :first AND id < :end), :value
);

-- name: delete_value
DELETE FROM pf_value WHERE run_no = ? AND key_no = ? AND step = ?;

-- name: delete_blobs
DELETE FROM pf_blob WHERE id IN (
    SELECT blob FROM pf_value WHERE run_no = :run_no AND step = :step AND blob IS NOT NULL
);

-- name: delete_values
DELETE FROM pf_value WHERE run_no = :run_no AND step = :step;

-- name: values_at
-- For each key: its last whole value at or before the step, and all that changed in it since.
SELECT k.key, v.op, v.value
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line = 0 AND v.step <= :step AND v.step >= {last_whole}
ORDER BY k.key_no, v.step;

-- name: stored_at
-- As values_at, with the step that wrote each part and no more of a long one than its beginning.
SELECT
    k.key, v.op, v.step, length(v.value) AS size,
    CASE WHEN :limit IS NULL OR v.op = 3 THEN v.value ELSE substr(v.value, 1, :limit) END AS value
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line = 0 AND v.step <= :step AND v.step >= {last_whole}
ORDER BY k.key_no, v.step;

-- name: changes_of_run
-- Every change of the store, by line, in the order of the steps.
SELECT v.step, k.line, k.key, v.op, v.value
FROM pf_values AS v JOIN pf_key AS k ON k.run_no = v.run_no AND k.key_no = v.key_no
WHERE v.run_no = ? ORDER BY v.step, k.key_no;

-- name: values_of_lines
-- What the branches of a run have of their own, by line. What is appended there may have no whole
-- value before it: it was appended to what the list was when the branch began.
SELECT k.line, k.key, k.key_no, v.op, v.value
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line >= :first AND v.step <= :step AND v.step >= coalesce({last_whole}, 0)
ORDER BY k.line, k.key_no, v.step;

-- name: runs_to_prune
-- The runs that match, newest first, with the time when something last happened in each; unless threads
-- are meant whole, not the last completed one of a run thread, with whose store the next one begins.
SELECT run_no, status, owned, coalesce(
    completed_at,
    (SELECT ts FROM pf_rows WHERE id BETWEEN run_no << 32 AND (run_no + 1 << 32) - 1 ORDER BY id DESC LIMIT 1),
    started_at,
    ''
) AS last
FROM pf_run AS r
WHERE {of_flow} AND {has_labels}
    AND (:whole OR thread IS NULL OR status <> 'completed' OR EXISTS (
        SELECT 1 FROM pf_run AS n
        WHERE n.thread = r.thread AND n.run_no > r.run_no AND n.flow_name = r.flow_name
            AND n.status = 'completed'
    ))
ORDER BY run_no DESC;

-- name: delete_unused_graphs
DELETE FROM pf_graphs WHERE graph_no NOT IN (
    SELECT graph_no FROM pf_run WHERE graph_no IS NOT NULL
);

-- name: spending
-- What a run has spent: by whom, in which attempt, in which call.
SELECT id, kind, line, step, item, node, path, attempt, note, data FROM pf_log
WHERE id >= ? AND id < ? AND kind = 19 ORDER BY id;

-- name: branch_steps
-- The finished steps of the branches of a run.
SELECT id, kind, line, step FROM pf_log WHERE id >= ? AND id < ? AND kind IN (1, 2) AND line > 0;

-- name: spending_of_thread
-- What other runs of a run thread have spent: those that are newer than one, and some that are open.
SELECT r.run_no, r.status, coalesce(l.id, 0) AS id, l.data FROM pf_run AS r
LEFT JOIN pf_log AS l {by_spending}
    ON l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1 AND l.kind = 19
WHERE r.thread = :thread AND r.run_no <> :besides
    AND r.flow_name IN {flows}
    AND (r.run_no > :newest OR r.run_no IN {open});

-- name: spending_of_label
-- Likewise those with a label.
SELECT r.run_no, r.status, coalesce(l.id, 0) AS id, l.data FROM pf_labels AS f JOIN pf_run AS r ON r.run_no = f.run_no
LEFT JOIN pf_log AS l {by_spending}
    ON l.id BETWEEN f.run_no << 32 AND (f.run_no + 1 << 32) - 1 AND l.kind = 19
WHERE f.key = :key AND f.value = :value AND f.run_no <> :besides AND f.run_no IN (
    SELECT n.run_no FROM pf_labels AS n
    WHERE n.key = :key AND n.value = :value AND n.run_no > :newest
    UNION ALL SELECT * FROM {open} AS o
);

-- name: was_resumed
SELECT 1 FROM pf_log WHERE id >= ? AND id < ? AND kind = 11 LIMIT 1;

-- name: last_line
SELECT max(line) FROM pf_log WHERE id >= ? AND id < ?;

-- name: due_runs
-- Runs of a flow that can go on, if nobody runs them: those that are due, and those of which only their
-- lock tells whether they were interrupted; none with a label that is held, for all or for queued ones.
SELECT * FROM (
    SELECT run_no, run_id, status, due_at FROM pf_run AS r
    WHERE flow_name = :flow AND status IN ('queued', 'paused') AND due_at <= :now
        AND NOT {held}
    ORDER BY due_at LIMIT :most
) AS d
UNION ALL
SELECT * FROM (
    SELECT run_no, run_id, status, due_at FROM pf_run
    WHERE flow_name = :flow AND status = 'running' AND owned = 1
    UNION ALL
    SELECT run_no, run_id, status, due_at FROM pf_run AS r {by_interruption}
    WHERE flow_name = :flow AND status = 'failed' AND error_type = 'Interrupted' AND {has_start}
) AS r WHERE NOT {held};

-- name: runs_at_work
SELECT run_no, flow_name, {labels} FROM pf_run AS r WHERE status = 'running' AND owned = 1;

-- name: labels_of_run
SELECT flow_name, {labels} FROM pf_run AS r WHERE run_no = ?;

-- name: interruptions
-- How often somebody has gone on with a run since something of it was last finished.
SELECT count(*) FROM pf_log WHERE id > coalesce(
    (SELECT max(id) FROM pf_log WHERE id > :first AND id < :end AND kind IN (1, 2, 3, 4, 8, 10, 12, 13, 18)), :first
) AND id < :end AND kind IN (0, 11);

-- name: rates
SELECT key, value, until FROM pf_rates WHERE until > ?;

-- name: rate
SELECT key, value, until FROM pf_rates WHERE key = ? AND value = ?;

-- name: use_rate
INSERT INTO pf_rates (key, value, until) VALUES (?, ?, ?)
ON CONFLICT (key, value) DO UPDATE SET until = excluded.until;

-- name: unused_rates
DELETE FROM pf_rates WHERE until < ?;

-- name: schedules_of_flow
SELECT flow_name, name, expression, tz, next_at FROM pf_schedules WHERE flow_name = ?;

-- name: due_schedules
SELECT flow_name, name, expression, tz, next_at FROM pf_schedules
WHERE flow_name = ? AND next_at <= ?;

-- name: insert_schedule
INSERT INTO pf_schedules (flow_name, name, expression, tz, next_at) VALUES (?, ?, ?, ?, ?);

-- name: delete_schedule
DELETE FROM pf_schedules WHERE flow_name = ? AND name = ?;

-- name: move_schedule
UPDATE pf_schedules SET next_at = ?
WHERE flow_name = ? AND name = ? AND expression = ? AND tz = ? AND next_at = ?;

-- name: whole_run
SELECT * FROM pf_run WHERE run_id = ?;

-- name: labels_to_copy
SELECT key, value FROM pf_labels WHERE run_no = ?;

-- name: values_to_copy
SELECT key_no, step, op, value, blob FROM pf_value WHERE run_no = ? ORDER BY key_no, step;

-- name: blobs_to_copy
SELECT id, value FROM pf_blob WHERE id >= ? AND id < ? ORDER BY id;

-- name: copy_run
INSERT INTO pf_run (
    run_id, flow_name, status, started_at, completed_at, due_at, total_steps, current_node, error_msg,
    error_type, traceback, owned, fence, cancel_requested, token, store_name, parent_run_id,
    parent_step, graph_no, thread, inputs
) VALUES (
    :run_id, :flow_name, :status, :started_at, :completed_at, :due_at, :total_steps, :current_node,
    :error_msg, :error_type, :traceback, :owned, :fence, :cancel_requested, :token, :store_name,
    :parent_run_id, :parent_step, :graph_no, :thread, :inputs
) ON CONFLICT (run_id) DO NOTHING;

-- name: later_than_copied
-- A run that was there before, of a run thread in which it comes later, or is as open, as one that
-- was just put after it.
SELECT run_id FROM pf_run
WHERE thread = :thread AND flow_name = :flow AND run_no < :run_no
    AND (started_at > :started_at OR (:open = 1 AND {is_open}))
ORDER BY run_no LIMIT 1;

-- name: copy_question
INSERT INTO pf_questions (
    run_no, line, step, item, path, text, context, answer_schema, asked_at, deadline,
    default_answer, answer, answered_by, answered_at, taken, closed
) VALUES (
    :run_no, :line, :step, :item, :path, :text, :context, :answer_schema, :asked_at, :deadline,
    :default_answer, :answer, :answered_by, :answered_at, :taken, :closed
);

-- name: copy_row
INSERT INTO pf_log (
    id, kind, line, steps, step, item, at, node, path, action, elapsed, attempt, next_node,
    next_path, event, note, error_type, error_msg, traceback, mark, data
) VALUES (
    :id, :kind, :line, :steps, :step, :item, :at, :node, :path, :action, :elapsed, :attempt,
    :next_node, :next_path, :event, :note, :error_type, :error_msg, :traceback, :mark, :data
);

-- name: copy_value
INSERT INTO pf_value (run_no, key_no, step, op, value, blob) VALUES (?, ?, ?, ?, ?, ?);

-- name: copy_blob
INSERT INTO pf_blob (id, value) VALUES (?, ?);
