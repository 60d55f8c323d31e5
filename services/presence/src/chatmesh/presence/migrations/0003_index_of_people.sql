-- For people only: while the table is empty, an index that begins with the channel looks
-- as good for finding one connection as the key, and a plan that is made then is kept. No
-- person is without a name, so it holds them all, and only who asks for people may use it.
DROP INDEX presence_connections_by_person;
CREATE INDEX presence_connections_by_person
ON presence_connections (channel, person, joined_us) WHERE person <> '';
