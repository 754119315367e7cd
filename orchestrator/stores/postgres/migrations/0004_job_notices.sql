-- Notices of jobs that have no run yet: one that is late, and one whose file cannot be used.

ALTER TABLE notice ALTER COLUMN run_id DROP NOT NULL;
