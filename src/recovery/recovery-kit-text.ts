/** What the kit tells of one destination. */
export interface KitDestination {
  name: string;
  kind: string;
  /** Everything that is no secret, and the secrets where they were asked for. */
  fields: Record<string, unknown>;
}

export interface KitContents {
  madeAt: Date;
  version: string;
  installation: string;
  organization: { id: string; name: string };
  /** age secrets with their public keys; none where others hold them. */
  identities: readonly { identity: string; recipient: string }[];
  /** age files that a passphrase opens. */
  wrapped: readonly { recipient: string; file: string }[];
  /** Who new backups are encrypted to. */
  recipients: readonly string[];
  verifyingKeys: readonly { id: string; pem: string }[];
  /** Secret; left out for those who may not have it. */
  signingKeys: readonly string[];
  destinations: readonly KitDestination[];
  hasSecrets: boolean;
  /** Why keys are missing here, as sentences. */
  notes: readonly string[];
}

/**
 * The kit as one text to print. Every line that is no age secret begins with `#`, so that the kit itself is an age identity file:
 * `age -d -i recovery-kit.txt`.
 */
export function recoveryKitText(kit: KitContents): string {
  const lines: string[] = [];
  const say = (text = '') => lines.push(...text.split('\n').map((line) => (line === '' ? '#' : `# ${line}`)));
  const title = (text: string) => say(`\n== ${text} ==\n`);

  say('BACKSTAY RECOVERY KIT');
  say(`\nMade ${kit.madeAt.toISOString()} by Backstay ${kit.version}.`);
  say('Whoever has this text can read the backups. Print it, or keep it in a vault, away from the server and from the backups.');
  say('It is an age identity file as it stands: age -d -i recovery-kit.txt FILE');
  title('Where it belongs');
  say(`installation  ${kit.installation}`);
  say(`organization  ${kit.organization.id}  ${kit.organization.name}`);
  say(`folder        <destination>/${kit.installation}/${kit.organization.id}/<source>/<backup>/`);

  title('Secret keys that open the backups (age)');
  for (const note of kit.notes) say(note);
  for (const { identity, recipient } of kit.identities) {
    say(`public key: ${recipient}`);
    lines.push(identity);
  }
  for (const { recipient, file } of kit.wrapped) {
    say(`\npublic key: ${recipient}; the passphrase opens this file, without the leading "# ":`);
    say(file.trim());
  }
  say(`\nNew backups are encrypted to: ${kit.recipients.join(', ')}`);

  title('Public keys that manifests are signed with (Ed25519), the current one first');
  for (const { id, pem } of kit.verifyingKeys) say(`key ${id}\n${pem.trim()}`);
  if (kit.signingKeys.length > 0) {
    title('Secret keys that sign manifests, to go on signing as the same server');
    for (const pem of kit.signingKeys) say(pem.trim());
  }

  title('Destinations');
  for (const { name, kind, fields } of kit.destinations) {
    say(`${name} (${kind})`);
    for (const [field, value] of Object.entries(fields))
      say(`    ${field} = ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  }
  if (!kit.hasSecrets) say('\nCredentials are left out; GET /api/keys/recovery-kit?secrets=true has them.');

  title('Restore by hand');
  say('Needs age, zstd, openssl 3 and the PostgreSQL client programs; docs/RESTORE-BY-HAND.md goes through it step by step.');
  say(`
BACKUP=<destination>/${kit.installation}/${kit.organization.id}/<source>/<backup>
sed -n 's/^# //p' recovery-kit.txt | sed -n '/BEGIN PUBLIC KEY/,/END PUBLIC KEY/p;/END PUBLIC KEY/q' > signing.pub
cut -d' ' -f3 "$BACKUP/manifest.json.sig" | base64 -d > signature.bin
openssl pkeyutl -verify -pubin -inkey signing.pub -rawin -in "$BACKUP/manifest.json" -sigfile signature.bin
age -d -i recovery-kit.txt "$BACKUP/globals.sql.zst.age" | zstd -d | psql -d postgres
createdb --template=template0 TARGET
cat "$BACKUP/database.dump.zst.age"* | age -d -i recovery-kit.txt | zstd -d | pg_restore --exit-on-error -d TARGET`);

  title('Restore with the command line, without a server');
  say(`
npm ci && npm run build
npx backstay inspect FOLDER_OR_S3_URL --kit recovery-kit.txt
npx backstay restore FOLDER_OR_S3_URL --kit recovery-kit.txt --backup newest --target postgresql://user@host/empty_database`);

  title('Go on with a new server');
  say(`
1. Start a new server: npm start (its own DATA_DIR, or DATABASE_URL and SECRET_KEY).
2. Make the destination again: POST /api/destinations with the fields above (the local folder is there already;
   put the old folder's content into DATA_DIR/backups).
3. POST /api/destinations/<name>/adopt with {"kit": "<this whole text>"}, or, with the server stopped:
   npm run adopt -- <name> --kit recovery-kit.txt
4. Give each source its credentials again: PUT /api/sources/<id>.
5. POST /api/backups/<id>/restore.`);
  return `${lines.join('\n')}\n`;
}
