-- Runs that stand for a day, and when a halted one may be resumed without a person.

-- The day for which the run stands, as 2026-11-29; NULL: for none.
ALTER TABLE run ADD COLUMN day TEXT;
-- When the cause of a halt is over; NULL: not known, or a person has to see to it.
ALTER TABLE run ADD COLUMN resume_at REAL;

-- The day of its rows, in days since 1970-01-01: what a later day says is not replaced by an earlier one.
ALTER TABLE night ADD COLUMN as_of INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN as_of INTEGER NOT NULL DEFAULT 0;
