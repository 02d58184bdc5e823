// SPDX-License-Identifier: Apache-2.0
// Terraform and a provider speak mutual TLS and each trusts the other's self-signed certificate, handed over at the
// start. Node signs but does not write certificates, and one fixed shape needs no library: forty lines of DER.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';

export interface Identity {
  readonly key: Buffer;
  readonly certificate: Buffer;
  /** The certificate as Go's handshake wants it: base64 of the DER, without padding. */
  readonly handshake: string;
}

const DAY = 24 * 60 * 60 * 1000;
/** The name Terraform expects of every provider, whatever the socket is. */
const NAME = 'localhost';

const TAG = { boolean: 0x01, integer: 0x02, bits: 0x03, octets: 0x04, oid: 0x06, text: 0x0c, time: 0x17 } as const;
const [SEQUENCE, SET, VERSION, EXTENSIONS, DNS_NAME] = [0x30, 0x31, 0xa0, 0xa3, 0x82];

// Object identifiers in their DER form, which for constants is shorter than an encoder.
const COMMON_NAME = Buffer.from('550403', 'hex');
const ECDSA_SHA256 = Buffer.from('2a8648ce3d040302', 'hex');
const SUBJECT_ALT_NAME = Buffer.from('551d11', 'hex');
const BASIC_CONSTRAINTS = Buffer.from('551d13', 'hex');

function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  const size = length < 0x100 ? Buffer.of(0x81, length) : Buffer.of(0x82, length >> 8, length & 0xff);
  return Buffer.concat([Buffer.of(tag), size, content]);
}

const bits = (content: Buffer): Buffer => der(TAG.bits, Buffer.of(0), content);

function utcTime(milliseconds: number): Buffer {
  const digits = new Date(milliseconds).toISOString().replace(/\D/g, '').slice(2, 14);
  return der(TAG.time, Buffer.from(`${digits}Z`));
}

/** Every extension here is critical: a verifier that does not know one must refuse. */
function extension(oid: Buffer, content: Buffer): Buffer {
  return der(SEQUENCE, der(TAG.oid, oid), der(TAG.boolean, Buffer.of(0xff)), der(TAG.octets, content));
}

/** A key and a certificate for localhost that vouches for itself, for a day. */
export function selfSigned(now = Date.now()): Identity {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = der(SEQUENCE, der(TAG.oid, ECDSA_SHA256));
  const name = der(SEQUENCE, der(SET, der(SEQUENCE, der(TAG.oid, COMMON_NAME), der(TAG.text, Buffer.from(NAME)))));
  const serial = randomBytes(8);
  serial[0] = 0x40 | (serial[0]! & 0x3f); // positive, and without a leading zero
  const body = der(
    SEQUENCE,
    der(VERSION, der(TAG.integer, Buffer.of(2))),
    der(TAG.integer, serial),
    algorithm,
    name,
    der(SEQUENCE, utcTime(now - DAY), utcTime(now + DAY)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(
      EXTENSIONS,
      der(
        SEQUENCE,
        extension(SUBJECT_ALT_NAME, der(SEQUENCE, der(DNS_NAME, Buffer.from(NAME)))),
        extension(BASIC_CONSTRAINTS, der(SEQUENCE, der(TAG.boolean, Buffer.of(0xff)))),
      ),
    ),
  );
  const signed = der(SEQUENCE, body, algorithm, bits(sign('sha256', body, privateKey)));
  const base64 = signed.toString('base64');
  return {
    key: Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    certificate: Buffer.from(`-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`),
    handshake: base64.replace(/=+$/, ''),
  };
}
