-- Whether others are told of a connection, where its token decides; null: as the
-- namespace of its channel says.
ALTER TABLE presence_connections ADD COLUMN announce boolean;
