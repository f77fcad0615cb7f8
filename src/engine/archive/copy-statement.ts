/**
 * The column names of a `COPY schema.table (a, "B c") FROM stdin;` as pg_dump writes it, unquoted and in order.
 * A table without columns has an empty list. Null when the statement has another form.
 */
export function copyColumns(statement: string): string[] | null {
  const scanner = new Scanner(statement);
  if (!scanner.literal('COPY ') || scanner.identifier() === null) return null;
  while (scanner.literal('.')) if (scanner.identifier() === null) return null;
  const columns: string[] = [];
  if (scanner.literal(' (')) {
    do {
      const column = scanner.identifier();
      if (column === null) return null;
      columns.push(column);
    } while (scanner.literal(', '));
    if (!scanner.literal(')')) return null;
  } else if (!scanner.literal(' ')) {
    return null;
  }
  return scanner.literal(' FROM stdin;') ? columns : null;
}

class Scanner {
  #at = 0;

  constructor(readonly text: string) {}

  literal(expected: string): boolean {
    if (!this.text.startsWith(expected, this.#at)) return false;
    this.#at += expected.length;
    return true;
  }

  identifier(): string | null {
    return this.literal('"') ? this.#quoted() : this.#plain();
  }

  #quoted(): string | null {
    let name = '';
    for (;;) {
      const quote = this.text.indexOf('"', this.#at);
      if (quote === -1) return null;
      name += this.text.slice(this.#at, quote);
      this.#at = quote + 1;
      if (!this.literal('"')) return name;
      name += '"';
    }
  }

  #plain(): string | null {
    const from = this.#at;
    while (this.#at < this.text.length && !' .,()";'.includes(this.text.charAt(this.#at))) this.#at += 1;
    return this.#at > from ? this.text.slice(from, this.#at) : null;
  }
}
