// SPDX-License-Identifier: Apache-2.0
// Values as they travel between Terraform and a provider: msgpack, with an extension for what nobody knows yet.
import { decode, encode, ExtensionCodec } from '@msgpack/msgpack';

/** Something known only after apply. Terraform compares what it sent with what it gets back, so the bytes are kept. */
export class Unknown {
  constructor(
    readonly extension = 0,
    readonly bytes = Uint8Array.of(0),
  ) {}
}

export const UNKNOWN = new Unknown();

export type Value = null | boolean | number | string | Unknown | readonly Value[] | Fields;
export interface Fields {
  readonly [name: string]: Value;
}

/** Extension 0 is a plain unknown, 12 one of which something is known, such as that it is not null. */
const EXTENSIONS = [0, 12];

const codec = new ExtensionCodec();
for (const type of EXTENSIONS) {
  codec.register({
    type,
    encode: (value) => (value instanceof Unknown && value.extension === type ? value.bytes : null),
    decode: (bytes) => new Unknown(type, Uint8Array.from(bytes)),
  });
}

export function isFields(value: Value | undefined): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Unknown);
}

export function decodeValue(bytes: Uint8Array): Value {
  return decode(bytes, { extensionCodec: codec }) as Value;
}

export function encodeValue(value: Value): Uint8Array {
  return encode(value, { extensionCodec: codec });
}
