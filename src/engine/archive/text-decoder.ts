import { isUtf8 } from 'node:buffer';

/** Turns the bytes of a name or a statement into text. */
export type DecodeText = (bytes: Buffer) => string;

const decodeLatin1: DecodeText = (bytes) => bytes.toString('latin1');

/** UTF-8; bytes that are none keep their identity as Latin-1, so that two names never become one. */
export const decodeUtf8: DecodeText = (bytes) => {
  const text = bytes.toString('utf8');
  return text.includes('\ufffd') && !isUtf8(bytes) ? decodeLatin1(bytes) : text;
};

/** PostgreSQL's encodings whose names the WHATWG standard spells in another way. */
const LABELS: Readonly<Record<string, string>> = {
  LATIN2: 'iso-8859-2',
  LATIN3: 'iso-8859-3',
  LATIN4: 'iso-8859-4',
  LATIN6: 'iso-8859-10',
  LATIN7: 'iso-8859-13',
  LATIN8: 'iso-8859-14',
  LATIN9: 'iso-8859-15',
  LATIN10: 'iso-8859-16',
  ISO_8859_5: 'iso-8859-5',
  ISO_8859_6: 'iso-8859-6',
  ISO_8859_7: 'iso-8859-7',
  ISO_8859_8: 'iso-8859-8',
  KOI8R: 'koi8-r',
  KOI8U: 'koi8-u',
  WIN866: 'ibm866',
  WIN874: 'windows-874',
  WIN1250: 'windows-1250',
  WIN1251: 'windows-1251',
  WIN1252: 'windows-1252',
  WIN1253: 'windows-1253',
  WIN1254: 'windows-1254',
  WIN1255: 'windows-1255',
  WIN1256: 'windows-1256',
  WIN1257: 'windows-1257',
  WIN1258: 'windows-1258',
  EUC_JP: 'euc-jp',
  EUC_KR: 'euc-kr',
  EUC_CN: 'gbk',
};

/**
 * The decoder for an archive's texts, which are in the encoding of the dump.
 * `encodingStatement` is the definition of the archive's ENCODING entry: `SET client_encoding = 'LATIN1';`.
 * Encodings that Node can not decode (SQL_ASCII, MULE_INTERNAL, LATIN5 …) are taken as UTF-8, with Latin-1 for what is not.
 */
export function decoderFor(encodingStatement: string): DecodeText {
  const encoding = /'([A-Z0-9_]+)'/.exec(encodingStatement)?.[1] ?? 'UTF8';
  if (encoding === 'LATIN1') return decodeLatin1;
  const label = LABELS[encoding];
  if (label === undefined) return decodeUtf8;
  const decoder = new TextDecoder(label);
  return (bytes) => decoder.decode(bytes);
}
