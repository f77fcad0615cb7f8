/** A database to measure with: a third each, by bytes, of wide texts, jsonb and narrow numbers. The same rows at every run. */

const PARAGRAPHS = 500;

/** SQL that fills an empty database, so that its dump has about `gigabytes` * 10^9 bytes. */
export function databaseSql(gigabytes) {
  const third = (gigabytes * 1e9) / 3;
  // Bytes of one row in the dump, measured.
  const rows = { documents: Math.round(third / 2437), records: Math.round(third / 236), readings: Math.round(third / 49.3) };
  return `
    CREATE TABLE paragraphs AS
      SELECT p AS n, string_agg(w.word, ' ' ORDER BY i) AS text FROM generate_series(0, ${PARAGRAPHS - 1}) AS p
        CROSS JOIN generate_series(1, 110) AS i
        CROSS JOIN LATERAL (SELECT substr(md5(((p * 7919 + i * 104729) % 4001)::text), 1, 3 + (p + i) % 7) AS word) AS w GROUP BY p;
    ALTER TABLE paragraphs ADD PRIMARY KEY (n);
    CREATE TABLE documents (id bigint PRIMARY KEY, title text NOT NULL, author text NOT NULL, body text NOT NULL);
    INSERT INTO documents
      SELECT i, 'Document ' || i || ' of ' || md5(i::text), 'author-' || i % 997 || '@example.com',
             a.text || E'\\n\\n' || md5((i * 31)::text) || E'\\n\\n' || b.text || E'\\n\\n' || c.text
        FROM generate_series(1, ${rows.documents}) AS i
        JOIN paragraphs a ON a.n = i * 7 % ${PARAGRAPHS} JOIN paragraphs b ON b.n = i * 13 % ${PARAGRAPHS} JOIN paragraphs c ON c.n = i * 29 % ${PARAGRAPHS};
    CREATE TABLE records (id bigint PRIMARY KEY, content jsonb NOT NULL);
    INSERT INTO records
      SELECT i, jsonb_build_object('id', i, 'customer', i % 5003, 'state', (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + i % 4],
             'total', (i % 100000) / 100.0, 'tags', jsonb_build_array('north', 'retail', i % 17), 'placed', timestamp '2024-01-01' + i * interval '13 seconds',
             'address', jsonb_build_object('street', 'Long Street ' || i % 211, 'city', 'City ' || i % 89, 'zip', lpad((i % 99991)::text, 5, '0')))
        FROM generate_series(1, ${rows.records}) AS i;
    CREATE TABLE readings (id bigint NOT NULL, sensor integer NOT NULL, at timestamptz NOT NULL, value double precision NOT NULL, quality smallint NOT NULL);
    INSERT INTO readings
      SELECT i, i % 1009, timestamptz '2024-01-01 00:00:00+00' + i * interval '1.7 seconds', round((20 + sin(i / 500.0) * 7)::numeric, 2), i % 4
        FROM generate_series(1, ${rows.readings}) AS i;
    CREATE INDEX readings_at ON readings (at);
    ANALYZE;`;
}
