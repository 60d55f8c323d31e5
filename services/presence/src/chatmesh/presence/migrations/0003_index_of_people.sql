-- For people only: while the table is empty, an index that begins with the channel looks
-- as good for finding one connection as the key, and a plan that is made then is kept. No
-- person is without a name, so it holds them all, and only who asks for people may use it.
-- A replica of the version before does not say that, and sorts a room for each page of
-- people until it is replaced.
CREATE INDEX presence_connections_of_people
ON presence_connections (channel, person, joined_us) WHERE person <> '';
-- Last, because it keeps everybody out until the end of the transaction.
DROP INDEX presence_connections_by_person;
