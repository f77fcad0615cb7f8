import { describe, expect, it } from '@jest/globals';
import { decoderFor } from './text-decoder.js';
import { encoderFor } from './text-encoder.js';

const NO_ORIGINAL = Buffer.alloc(0);

describe('encoding text as an archive has it', () => {
  it.each(['LATIN1', 'LATIN2', 'LATIN9', 'WIN1251', 'WIN1252', 'KOI8R', 'ISO_8859_7'])(
    'gives back every byte of %s that means a character',
    (encoding) => {
      const statement = `SET client_encoding = '${encoding}';\n`;
      const bytes = Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1));
      const sound = bytes.filter((byte) => !decoderFor(statement)(Buffer.from([byte])).includes('\ufffd'));
      expect(sound.length).toBeGreaterThan(240);
      const text = decoderFor(statement)(Buffer.from(sound));
      expect(encoderFor(statement)(text, NO_ORIGINAL)).toEqual(Buffer.from(sound));
    },
  );

  it.each([
    ['EUC_JP', '日本 rôle', 'c6fccbdc2072 8fabd4 6c65'],
    ['EUC_KR', '한국어', 'c7d1b1b9beee'],
    ['EUC_CN', '中文;', 'd6d0cec43b'],
    ['UTF8', 'Ünï', 'c39c6ec3af'],
  ])('encodes characters of several bytes in %s', (encoding, text, bytes) => {
    const encoded = encoderFor(`SET client_encoding = '${encoding}';\n`)(text, NO_ORIGINAL);
    expect(encoded.toString('hex')).toBe(bytes.replaceAll(' ', ''));
  });

  it('writes back in Latin-1 what was no UTF-8', () => {
    const original = Buffer.from('a \xfc \xc3\xbc', 'latin1');
    const encoding = "SET client_encoding = 'SQL_ASCII';\n";
    const text = decoderFor(encoding)(original);
    expect(encoderFor(encoding)(text.slice(2), original)).toEqual(original.subarray(2));
    expect(() => encoderFor(encoding)('日', original)).toThrow(/character "日"/);
  });

  it('refuses a character that the encoding lacks', () => {
    expect(() => encoderFor("SET client_encoding = 'LATIN1';\n")('日', NO_ORIGINAL)).toThrow(/character "日"/);
    expect(() => encoderFor("SET client_encoding = 'EUC_KR';\n")('Ü', NO_ORIGINAL)).toThrow(/character "Ü"/);
  });
});
