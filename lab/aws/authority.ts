// SPDX-License-Identifier: Apache-2.0
// Who vouches for the names that a lab takes on: an authority of this machine's own, made once, kept beside the images and
// trusted by them alone.
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory, must } from '../support/host';

/** PEM files. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

function filesIn(folder: string): Identity {
  return { certificate: join(folder, 'certificate.pem'), key: join(folder, 'key.pem') };
}

/** The authority, from the cache or, the first time, new. */
export async function ensureAuthority(): Promise<Identity> {
  const target = join(cacheDirectory(), 'authority');
  if (existsSync(target)) return filesIn(target);
  const work = mkdtempSync(`${target}.`);
  const { certificate, key } = filesIn(work);
  const what = ['-subj', '/CN=mirror gateway lab', '-days', '3650'];
  const limits = [
    '-addext',
    'keyUsage=critical,keyCertSign',
    '-addext',
    'nameConstraints=critical,permitted;DNS:amazonaws.com',
  ];
  await must('openssl', ['req', '-x509', ...KEY, ...what, ...limits, '-keyout', key, '-out', certificate]);
  if (existsSync(target))
    rmSync(work, { recursive: true }); // somebody else's came first
  else renameSync(work, target);
  return filesIn(target);
}

/** An identity for a name, signed by the authority, in the folder. */
export async function identityFor(name: string, folder: string): Promise<Identity> {
  const authority = await ensureAuthority();
  const { certificate, key } = filesIn(folder);
  const [request, extensions] = [join(folder, 'request.pem'), join(folder, 'extensions')];
  writeFileSync(extensions, `subjectAltName=DNS:${name}\nbasicConstraints=critical,CA:FALSE\n`);
  await must('openssl', ['req', ...KEY, '-subj', '/CN=lab', '-keyout', key, '-out', request]);
  const signing = ['-CA', authority.certificate, '-CAkey', authority.key, '-CAcreateserial', '-days', '365'];
  await must('openssl', ['x509', '-req', '-in', request, ...signing, '-extfile', extensions, '-out', certificate]);
  return { certificate, key };
}
