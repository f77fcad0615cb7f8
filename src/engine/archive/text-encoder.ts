import { isUtf8 } from 'node:buffer';
import { archiveUnsupported } from './archive-errors.js';
import { type DecodeText, decoderFor, decodeUtf8 } from './text-decoder.js';

/** Turns text into bytes of the archive's encoding; `original` are the bytes of the value that it takes the place of. */
export type EncodeText = (text: string, original: Buffer) => Buffer;

const REPLACEMENT = '\ufffd';
const FIRST_HIGH_BYTE = 0x80;
/** Both bytes of a character in the encodings of East Asia; a third one comes after this prefix in EUC_JP. */
const FIRST_OF_PAIR = 0xa1;
const LAST_OF_PAIR = 0xfe;
const THREE_BYTE_PREFIX = 0x8f;

/**
 * The way back from what `decoderFor` gives, for the same `encodingStatement`.
 * @throws EngineError ARCHIVE_CORRUPT (by the function that it gives) for text that the encoding does not hold, or in two ways.
 */
export function encoderFor(encodingStatement: string): EncodeText {
  const decode = decoderFor(encodingStatement);
  return decode === decodeUtf8 ? encodeLikeOriginal : encodeByTable(decode);
}

/** What was no UTF-8 was read as Latin-1, value by value. */
const encodeLikeOriginal: EncodeText = (text, original) => {
  if (isUtf8(original)) return Buffer.from(text, 'utf8');
  for (const character of text) if (character > '\u00ff') throw notEncodable(character);
  return Buffer.from(text, 'latin1');
};

function encodeByTable(decode: DecodeText): EncodeText {
  let table: Map<string, Buffer | null> | undefined;
  return (text) => {
    const parts: Buffer[] = [];
    // Statements are almost all ASCII, which has the same bytes in every encoding of a server.
    for (const part of text.match(/[\0-\x7f]+|[^\0-\x7f]/gu) ?? []) {
      if (part < '\x80') parts.push(Buffer.from(part, 'latin1'));
      else parts.push((table ??= reverse(decode)).get(part) ?? refuse(part));
    }
    return Buffer.concat(parts);
  };
}

/** The bytes of each character beyond ASCII; null where two series of bytes mean the same one. */
function reverse(decode: DecodeText): Map<string, Buffer | null> {
  const table = new Map<string, Buffer | null>();
  const add = (...bytes: number[]): boolean => {
    const encoded = Buffer.from(bytes);
    const character = decode(encoded);
    if (character.includes(REPLACEMENT) || [...character].length !== 1) return false;
    table.set(character, table.has(character) ? null : encoded);
    return true;
  };
  for (let first = FIRST_HIGH_BYTE; first <= 0xff; first += 1) {
    if (add(first)) continue;
    for (let second = FIRST_OF_PAIR; second <= LAST_OF_PAIR; second += 1) {
      if (add(first, second) || first !== THREE_BYTE_PREFIX) continue;
      for (let third = FIRST_OF_PAIR; third <= LAST_OF_PAIR; third += 1) add(first, second, third);
    }
  }
  return table;
}

function refuse(character: string): never {
  throw notEncodable(character);
}

function notEncodable(character: string): Error {
  return archiveUnsupported(`the character "${character}" of a statement to change has no single form in its encoding`);
}
