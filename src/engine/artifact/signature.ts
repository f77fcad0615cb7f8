import { sign, verify } from 'node:crypto';
import { EngineError } from '../errors.js';
import { keyId, publicKeyOf, readSigningKey, readVerifyingKey } from './keys.js';

const LINE = /^ed25519 ([0-9a-f]{32}) ([A-Za-z0-9+/]{86}==)\n$/;

/** The largest signature file that is read. */
export const MAX_SIGNATURE_BYTES = 1024;

/**
 * Signs exact bytes with Ed25519 (RFC 8032). The file is one line: `ed25519 <key id> <base64 of the 64 bytes>`, so that a
 * person can check it without this product:
 *
 *     cut -d' ' -f3 manifest.json.sig | base64 -d > signature.bin
 *     openssl pkeyutl -verify -pubin -inkey signing.pub -rawin -in manifest.json -sigfile signature.bin
 *
 * @param privateKeyPem PKCS #8
 * @throws EngineError KEY_INVALID
 */
export function signManifest(bytes: Uint8Array, privateKeyPem: string): Buffer {
  const signature = sign(null, bytes, readSigningKey(privateKeyPem)).toString('base64');
  return Buffer.from(`ed25519 ${keyId(publicKeyOf(privateKeyPem))} ${signature}\n`);
}

/**
 * Checks that one of the trusted keys signed exactly these bytes, and returns that key's id.
 * @param publicKeyPems SPKI; old keys stay in this list after a rotation
 * @throws EngineError SIGNATURE_INVALID, KEY_INVALID
 */
export function verifyManifest(bytes: Uint8Array, signatureFile: Uint8Array, publicKeyPems: readonly string[]): string {
  const [, signer, signature] = LINE.exec(Buffer.from(signatureFile).toString('latin1')) ?? [];
  if (signer === undefined || signature === undefined) throw signatureInvalid('its signature file is damaged');
  const publicKeyPem = publicKeyPems.find((pem) => keyId(pem) === signer);
  if (publicKeyPem === undefined) throw signatureInvalid(`it was signed by the key ${signer}, which is not trusted here`);
  const raw = Buffer.from(signature, 'base64');
  // Base64 has spare bits at its end: only one spelling of a signature is taken.
  if (raw.toString('base64') !== signature) throw signatureInvalid('its signature file is damaged');
  if (!verify(null, bytes, readVerifyingKey(publicKeyPem), raw))
    throw signatureInvalid('its bytes are not those that were signed');
  return signer;
}

export function signatureInvalid(why: string): EngineError {
  return new EngineError(
    'SIGNATURE_INVALID',
    `The manifest is not to be trusted: ${why}.`,
    'Use another copy or an older backup; for a backup of another installation, add its signing key to the trusted ones.',
  );
}
