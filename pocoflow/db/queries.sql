-- Every statement that WorkflowDB and the recorders execute, by name.

-- Parts of statements, which name them in braces: for run r its labels, whether it has the given labels,
-- whether it matches the filters of a list, or a flow and run thread, whether it is open, whether it has
-- a row to start from, and whether it has a label that has reached a limit; lists given as parameters;
-- the length of the list in a row; an index to use; for key k the step of its last whole value.

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
-- The number of open runs that have a label.
SELECT count(*) FROM pf_labels AS l JOIN pf_run AS r ON r.run_no = l.run_no
WHERE l.key = ? AND l.value = ? AND {is_open};

-- name: open_in_thread
-- A run that prevents others of its run thread from starting.
SELECT run_no, run_id, status, (
    SELECT count(*) FROM pf_questions AS q
    WHERE q.run_no = pf_run.run_no AND q.closed = 0 AND q.answer IS NULL
) AS unanswered FROM pf_run
WHERE thread = :thread AND flow_name IN {flows}
    AND {is_open} AND run_no <> :besides
ORDER BY run_no LIMIT 1;

-- name: last_completed
-- The run with whose last store the next run of its run thread starts.
SELECT run_no, run_id, total_steps FROM pf_run
WHERE thread = :thread AND flow_name IN {flows}
    AND status = 'completed'
ORDER BY run_no DESC LIMIT 1;

-- name: later_in_thread
-- A run of a run thread that has started after another one.
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
-- The unanswered questions of runs that can still continue.
SELECT q.*, r.run_id, r.flow_name FROM pf_questions AS q JOIN pf_run AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
ORDER BY q.question;

-- name: answer_question
-- The first answer counts. Returns nothing if there was one, or the run has continued without. An answer
-- that the node cannot accept is replaced, if it is still the current one.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
    AND (SELECT status FROM pf_runs AS r WHERE r.run_no = pf_questions.run_no)
        NOT IN ('completed', 'cancelled')
RETURNING question;

-- name: apply_default
-- A default counts also in a cancelled run: the process that resumes it holds its lock.
UPDATE pf_questions SET answer = ?, answered_by = ?, answered_at = ?
WHERE question = ? AND answer IS ? AND closed = 0
RETURNING question;

-- name: answered_run
-- A paused run is due as soon as one of its questions is answered.
UPDATE pf_run SET due_at = ? WHERE run_no = ? AND status = 'paused';

-- name: take_answer
-- A resume has used the state of this question: its answer, or none until its deadline.
UPDATE pf_questions SET taken = 1 WHERE question = ?;

-- name: open_in_run
SELECT question FROM pf_questions WHERE run_no = ? AND closed = 0 AND answer IS NULL
ORDER BY question;

-- name: open_by_run
-- The number of unanswered questions of each run that can still continue.
SELECT r.run_id, count(*) FROM pf_questions AS q JOIN pf_run AS r ON r.run_no = q.run_no
WHERE q.closed = 0 AND q.answer IS NULL AND r.status NOT IN ('completed', 'cancelled')
GROUP BY r.run_no;

-- name: close_questions
-- A step is finished: close its questions, and those of its branches.
WITH RECURSIVE branches AS (
    SELECT line, json_extract(data, '$[0]') AS parent FROM pf_log
    WHERE id > :since AND id < :last AND kind = 9
), inside (line) AS (
    SELECT :line UNION SELECT b.line FROM branches AS b JOIN inside AS i ON b.parent = i.line
)
UPDATE pf_questions SET closed = 1
WHERE run_no = :run_no AND closed = 0 AND (:line = 0 OR line IN (SELECT line FROM inside));

-- name: pause_run
-- A run is due again once a question was answered, or its deadline has passed.
UPDATE pf_run SET
    status = 'paused', completed_at = NULL, total_steps = ?, current_node = ?, owned = 0,
    due_at = (
        SELECT min(coalesce(answered_at, deadline)) FROM pf_questions AS q
        WHERE q.run_no = pf_run.run_no AND q.closed = 0 AND q.taken = 0
    )
WHERE run_no = ?;

-- name: cancel_waiting
-- A run that no process runs is cancelled at once: if it is queued, paused or interrupted.
UPDATE pf_run SET status = 'cancelled', completed_at = ?, cancel_requested = 1
WHERE run_no = ? AND (
    status IN ('queued', 'paused') OR (status = 'failed' AND error_type = 'Interrupted')
) RETURNING total_steps;

-- name: runs_to_recover
-- The runs of a flow whose process may have ended, those already recorded as interrupted, and those that
-- are paused with an answer, or past a deadline.
SELECT r.*, {labels} FROM pf_runs AS r WHERE flow_name = :flow AND (
    (status = 'running' AND owned = 1)
    OR (status = 'failed' AND error_type = 'Interrupted' AND {has_start})
    OR (status = 'paused' AND due_at <= :now)
)
ORDER BY run_no;

-- name: can_continue
-- Whether a run whose lock this process holds is one to recover, or a queued one that is due, as a fork
-- always is.
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
-- A page of the runs before a number, newest first; NULL matches every status, flow, start or text.
SELECT r.*, {labels} FROM pf_listed AS r
WHERE run_no < :before
    AND {matches} AND {has_labels}
ORDER BY run_no DESC LIMIT :limit;

-- name: runs_of_status
-- The same for one or two statuses, by their index: each in order, as sorting would read all runs.
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
-- The same for a run thread, by its index.
SELECT r.*, {labels} FROM pf_listed AS r
WHERE thread = :thread AND run_no < :before
    AND {matches} AND {has_labels}
ORDER BY run_no DESC LIMIT :limit;

-- name: runs_labelled
-- The same for a label, by its index.
SELECT r.*, {labels} FROM pf_labels AS f CROSS JOIN pf_listed AS r ON r.run_no = f.run_no
WHERE f.key = :key AND f.value = :value AND f.run_no < :before
    AND {matches} AND {has_labels}
ORDER BY f.run_no DESC LIMIT :limit;

-- name: request_cancel
-- Ask the process that runs the run to stop after its current step.
UPDATE pf_run SET cancel_requested = 1 WHERE run_id = ? AND status = 'running' RETURNING run_no;

-- name: counts_by_flow
-- The number of runs of each flow and status.
SELECT flow_name, status, count(*) AS runs FROM pf_run GROUP BY flow_name, status;

-- name: runs_with_owner
-- The runs with the status running that belong to a process, which may have ended.
SELECT run_no, flow_name FROM pf_run WHERE status = 'running' AND owned = 1;

-- name: forks_of_run
SELECT run_id, parent_step, status FROM pf_run WHERE parent_run_id = ? ORDER BY run_no;

-- name: run_state
SELECT status, total_steps, cancel_requested FROM pf_run WHERE run_no = ?;

-- name: finish
-- Any end of a run, after the row of its log for it, which has checked the claim; the lock is released
-- afterwards.
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
-- Persist what a reader has derived: the process of this run has ended.
UPDATE pf_run SET
    status = 'failed', error_msg = :error_msg, error_type = :error_type, owned = 0,
    total_steps = (SELECT v.total_steps FROM pf_runs AS v WHERE v.run_no = :run_no),
    current_node = (SELECT v.current_node FROM pf_runs AS v WHERE v.run_no = :run_no)
WHERE run_no = :run_no AND status = 'running' AND owned = 1;

-- name: close_running
-- Runs that 0.2.1 left with the status running, and that no process runs any more.
UPDATE pf_run SET status = 'failed', error_msg = ?, error_type = 'Interrupted'
WHERE status = 'running';

-- name: paths_of_questions
SELECT question, path FROM pf_questions WHERE run_no = ? AND closed = 0;

-- name: rename_question
UPDATE pf_questions SET path = ? WHERE question = ?;

-- name: run_by_number
SELECT status, owned, run_no FROM pf_run WHERE run_no = ?;

-- name: delete_run
DELETE FROM pf_run WHERE run_no = ?;

-- name: claim
-- From here on, commits under earlier claims are refused. The number contains a clock, to differ from
-- numbers assigned before an older copy of the file was restored.
UPDATE pf_run SET fence = max(fence + 1, ?) WHERE run_no = ? RETURNING fence;

-- name: resume_run
-- A run is at work again; it was not completed, and this process holds its lock.
UPDATE pf_run SET
    status = 'running', owned = 1, completed_at = NULL, error_msg = NULL, error_type = NULL,
    traceback = NULL, cancel_requested = 0, flow_name = ?, current_node = ?, graph_no = ?,
    started_at = coalesce(started_at, ?)
WHERE run_no = ?;

-- name: end_step
-- Replace the row of a result with that of its finished step, if it is still the last row; not if another
-- process has claimed the run, has asked it to stop or has recorded it as interrupted. An empty text
-- means NULL here and in append_step: binding NULL from Python takes ten times as long.
UPDATE pf_log SET
    kind = 1, line = ?, steps = ?, step = ?, at = ?, note = nullif(?, ''), node = ?,
    path = nullif(?, ''), action = ?, elapsed = ?, attempt = ?, next_node = ?,
    next_path = nullif(?, ''), mark = nullif(?, ''), data = nullif(?, '')
WHERE id = ? AND NOT EXISTS (SELECT 1 FROM pf_log WHERE id = ?) AND EXISTS (
    SELECT 1 FROM pf_run WHERE run_no = ? AND fence = ? AND cancel_requested = 0 AND owned = 1
);

-- name: append_step
-- The row of a finished step. Nothing is written if another process has claimed the run, or the previous
-- row is missing; nor, if the last but one parameter is 0, if the run was asked to stop or was recorded
-- as interrupted: then kind is NULL, which violates its constraint.
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
-- Any other row of a run that this process has claimed. The first parameter is the number of ids that it
-- uses, the last of which it has.
INSERT INTO pf_log (
    id, kind, line, steps, step, item, at, node, path, attempt, elapsed, next_node, next_path, event,
    note, error_type, error_msg, traceback, mark, data
)
SELECT
    ? + (SELECT id FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
FROM pf_run
WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?);

-- name: append_result
-- The row of a finished exec of a run that this process has claimed.
INSERT OR IGNORE INTO pf_log (id, line, steps, step, at, node, data, kind) VALUES (
    (SELECT id + 1 FROM pf_log WHERE id < ? ORDER BY id DESC LIMIT 1),
    ?, ?, ?, ?, ?, ?,
    (
        SELECT 3 FROM pf_run
        WHERE run_no = ? AND fence = ? AND EXISTS (SELECT 1 FROM pf_log WHERE id = ?)
    )
);

-- name: mark_void
UPDATE pf_log SET mark = 'void' WHERE id = ?;

-- name: emitted_since
-- Emitted values of steps that may be unfinished, without those already void.
SELECT id, line, item, event, note, {length_of_data} AS size FROM pf_log
WHERE id > ? AND id < ? AND kind = 20 AND mark IS NULL ORDER BY id;

-- name: emitted_by_exec
-- Emitted values of an exec, or of its work on an item, without those already void, and without those of
-- calls whose result counts.
SELECT id, {length_of_data} AS size FROM pf_log AS e
WHERE id > :since AND id < :end AND kind = 20 AND mark IS NULL AND event = 'exec' AND line = :line
    AND coalesce(item, -1) = :item AND coalesce((
        SELECT c.data FROM pf_log AS c
        WHERE c.id > :since AND c.id < :end AND c.kind = 18 AND c.line = :line
            AND coalesce(c.item, -1) = :item AND c.note = e.note
        ORDER BY c.id DESC LIMIT 1
    ), '') = ''
ORDER BY id;

-- name: append_foreign
-- A row written without a claim on the run: an event, an answer, a checkpoint.
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
-- The rows of a step that is finished now, and of its branches.
DELETE FROM pf_log WHERE id > ? AND id < ? AND kind IN (3, 4, 5, 6, 18) AND (line = ? OR ? = 0);

-- name: remove_input
-- The input of a step whose prep will run again.
DELETE FROM pf_log WHERE id > ? AND id < ? AND line = ? AND kind = 6;

-- name: step_row
-- The first row at or after an id, with the progress of the run.
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
-- The last step of the run's own line at or before a row; later rows are unfinished.
SELECT * FROM pf_log
WHERE id >= ? AND id <= ? AND line = 0 AND kind IN (0, 1, 2, 16) ORDER BY id DESC LIMIT 1;

-- name: rows_from
SELECT * FROM pf_rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?;

-- name: run_status
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

-- name: reopen_run
-- A reader has recorded the run as interrupted, but it is at work.
UPDATE pf_run SET status = 'running', owned = 1, error_msg = NULL, error_type = NULL
WHERE run_no = ?;

-- name: items_on_record
SELECT count(*) FROM pf_log WHERE id >= ? AND id < ? AND kind = 4;

-- name: node_began
-- The time at which the current node of a run started.
SELECT ts FROM pf_rows WHERE id >= ? AND id < ? AND kind IN (0, 1, 2, 9, 11) ORDER BY id DESC LIMIT 1;

-- name: next_nodes
SELECT id, next_node, next_path, mark FROM pf_log
WHERE id >= ? AND id < ? AND next_node IS NOT NULL AND kind IN (0, 1, 2, 16);

-- name: rename_next
UPDATE pf_log SET next_node = ?, next_path = ?, mark = ? WHERE id = ?;

-- name: rename_started
UPDATE pf_log SET node = ?, path = ? WHERE id = ?;

-- name: insert_key
INSERT INTO pf_key (run_no, key_no, line, key) VALUES (?, ?, ?, ?);

-- name: keys_of_run
SELECT key, key_no, line FROM pf_key WHERE run_no = ? ORDER BY key_no;

-- name: insert_value
INSERT INTO pf_value (run_no, key_no, step, op, value) VALUES (?, ?, ?, ?, ?);

-- name: insert_value_of_blob
-- The value is the blob that was inserted last.
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
-- For each key: its last whole value at or before the step, and all later changes to it.
SELECT k.key, v.op, v.value
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line = 0 AND v.step <= :step AND v.step >= {last_whole}
ORDER BY k.key_no, v.step;

-- name: stored_at
-- As values_at, with only the beginning of a long part, and the step that wrote each part.
SELECT
    k.key, v.op,
    CASE WHEN :limit IS NULL OR v.op = 3 THEN v.value ELSE substr(v.value, 1, :limit) END AS value,
    v.step, length(v.value) AS size
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
-- The values of the branches of a run, by line. Appended elements may have no whole value before them:
-- they were appended to the list as it was when the branch started.
SELECT k.line, k.key, k.key_no, v.op, v.value
FROM pf_key AS k
JOIN pf_values AS v ON v.run_no = k.run_no AND v.key_no = k.key_no
WHERE k.run_no = :run_no AND k.line >= :first AND v.step <= :step AND v.step >= coalesce({last_whole}, 0)
ORDER BY k.line, k.key_no, v.step;

-- name: runs_to_prune
-- The matching runs, newest first, with the time of their last change; unless whole threads are meant,
-- without the last completed run of a run thread, with whose store the next one starts.
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
-- What a run has spent: in which node, attempt and call. A finished step of a branch has the number under
-- which it was committed.
SELECT id, line, CASE line WHEN 0 THEN step ELSE coalesce((
    SELECT s.step FROM pf_log AS s
    WHERE s.id > l.id AND s.id < :end AND s.line = l.line AND s.kind IN (1, 2) ORDER BY s.id LIMIT 1
), step) END AS step, item, node, path, attempt, note, data FROM pf_log AS l
WHERE id >= :first AND id < :end AND kind = 19 ORDER BY id;

-- name: spending_of_thread
-- What other runs of a run thread have spent: those newer than a number, and the given open ones.
SELECT r.run_no, r.status, coalesce(l.id, 0) AS id, l.data FROM pf_run AS r
LEFT JOIN pf_log AS l {by_spending}
    ON l.id BETWEEN r.run_no << 32 AND (r.run_no + 1 << 32) - 1 AND l.kind = 19
WHERE r.thread = :thread AND r.run_no <> :besides
    AND r.flow_name IN {flows}
    AND (r.run_no > :newest OR r.run_no IN {open});

-- name: spending_of_label
-- The same for runs with a label.
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
-- Runs of a flow that can continue if no process runs them: those that are due, and those that are
-- interrupted if their lock is free; none with a label that has reached a limit.
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
-- Also whether one of them has reached a limit.
SELECT flow_name, {labels}, {held} AS held FROM pf_run AS r WHERE run_no = :run_no;

-- name: interruptions
-- How often a run was started or resumed since it last made progress.
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
SELECT key, value FROM pf_labels WHERE run_no = :run_no;

-- name: keys_to_copy
SELECT key, key_no, line FROM pf_key WHERE run_no = :run_no ORDER BY key_no;

-- name: values_to_copy
SELECT key_no, step, op, value, blob FROM pf_value WHERE run_no = :run_no ORDER BY key_no, step;

-- name: blobs_to_copy
SELECT id, value FROM pf_blob WHERE id >= :first AND id < :end ORDER BY id;

-- name: copy_labels
INSERT INTO pf_labels (run_no, key, value) VALUES (:run_no, :key, :value);

-- name: copy_keys
INSERT INTO pf_key (run_no, key_no, line, key) VALUES (:run_no, :key_no, :line, :key);

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
-- An existing run of the run thread of a run that was just copied, which started later than the copy,
-- or is open as well.
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

-- name: copy_values
INSERT INTO pf_value (run_no, key_no, step, op, value, blob)
VALUES (:run_no, :key_no, :step, :op, :value, CAST(:blob AS bigint) + :shift);

-- name: copy_blobs
INSERT INTO pf_blob (id, value) VALUES (CAST(:id AS bigint) + :shift, :value);
