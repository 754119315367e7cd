-- Responses that a run takes over from an earlier one, and requests that wait for a request of another run.

-- 1: a request of another run asked for the response, and the attempt that holds it there is charged for it.
ALTER TABLE attempt ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0 CHECK (adopted = 0 OR adopted = 1);

CREATE TABLE waiting (
  -- A blocked request that waits for one of another run, which asks the same; deleted when it moves on.
  request_id INTEGER PRIMARY KEY REFERENCES request,
  run_id INTEGER NOT NULL REFERENCES run,       -- of the request that waits
  other_id INTEGER NOT NULL REFERENCES request, -- the request that it waits for
  -- 1: the other one has taken over its open response, so that it ends as that one does.
  adopted INTEGER NOT NULL CHECK (adopted = 0 OR adopted = 1)
) STRICT;

CREATE INDEX waiting_run ON waiting (run_id);
CREATE INDEX waiting_other ON waiting (other_id);

-- Requests that share the outcome of an earlier one of their run are found through that one.
DROP INDEX request_fingerprint;
CREATE INDEX request_fingerprint ON request (fingerprint) WHERE fingerprint IS NOT NULL AND same_as IS NULL;
