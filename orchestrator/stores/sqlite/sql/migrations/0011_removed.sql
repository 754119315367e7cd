-- What runs that were removed have spent: the budgets of a day and a month still count it.

CREATE TABLE removed_spending (
  -- What the runs of a day were charged before they were removed.
  day INTEGER NOT NULL,                 -- since 1970-01-01, UTC
  simulated INTEGER NOT NULL CHECK (simulated = 0 OR simulated = 1),
  pusd INTEGER NOT NULL CHECK (pusd >= 0),
  PRIMARY KEY (day, simulated)
) STRICT, WITHOUT ROWID;
