import type { ByteReader } from './byte-reader.js';
import type { DecodeText } from './text-decoder.js';

/**
 * How one value of a record is stored. `word` is a text that many records share, kept once; `texts` is a list of texts that
 * a null text ends; `offset` is a state byte and a file offset; `bytes` is a text whose encoding is not known yet; `absent`
 * is a value that this version does not store (it reads as null).
 */
export type FieldKind = 'byte' | 'int' | 'text' | 'word' | 'bytes' | 'texts' | 'offset' | 'absent';

/** A place in the archive's file, as the table of contents notes it. */
export interface StoredOffset {
  state: number;
  offset: bigint;
}

export type FieldValue = number | string | null | Buffer | string[] | StoredOffset;

/** Reads one record, a fixed series of values, from bytes in pieces: each value is decoded once, however small the pieces. */
export class RecordReader {
  #values: FieldValue[] = [];
  #texts: string[] = [];
  readonly #words = new Map<string, string>();

  constructor(
    readonly fields: readonly FieldKind[],
    readonly offSize: number,
  ) {}

  /** The record's values in the order of `fields`, or undefined while some have not arrived. */
  read(reader: ByteReader, decode: DecodeText): FieldValue[] | undefined {
    for (let field = this.fields[this.#values.length]; field !== undefined; field = this.fields[this.#values.length]) {
      const value = this.#readField(field, reader, decode);
      if (value === undefined) return undefined;
      this.#values.push(value);
    }
    const values = this.#values;
    this.#values = [];
    return values;
  }

  #readField(field: FieldKind, reader: ByteReader, decode: DecodeText): FieldValue | undefined {
    switch (field) {
      case 'byte':
        return reader.byte();
      case 'int':
        return reader.int();
      case 'text':
        return decodeOr(reader.string(), decode);
      case 'word':
        return this.#keepOnce(decodeOr(reader.string(), decode));
      case 'bytes': {
        const bytes = reader.string();
        return bytes ? Buffer.from(bytes) : bytes;
      }
      case 'texts':
        return this.#readTexts(reader, decode);
      case 'offset': {
        const bytes = reader.bytes(1 + this.offSize);
        if (bytes === undefined) return undefined;
        return {
          state: bytes.readUInt8(0),
          offset: this.offSize === 8 ? bytes.readBigUInt64LE(1) : BigInt(bytes.readUInt32LE(1)),
        };
      }
      case 'absent':
        return null;
      default:
        return field satisfies never;
    }
  }

  #keepOnce(word: string | null | undefined): string | null | undefined {
    if (!word) return word;
    const kept = this.#words.get(word);
    if (kept !== undefined) return kept;
    this.#words.set(word, word);
    return word;
  }

  #readTexts(reader: ByteReader, decode: DecodeText): string[] | undefined {
    for (;;) {
      const text = decodeOr(reader.string(), decode);
      if (text === undefined) return undefined;
      if (text === null) {
        const texts = this.#texts;
        this.#texts = [];
        return texts;
      }
      this.#texts.push(text);
    }
  }
}

function decodeOr(bytes: Buffer | null | undefined, decode: DecodeText): string | null | undefined {
  return bytes ? decode(bytes) : bytes;
}
