-- Which endpoint has what, where a config names several; NULL: it named one.

ALTER TABLE attempt ADD COLUMN endpoint TEXT;
ALTER TABLE conversation ADD COLUMN endpoint TEXT;
