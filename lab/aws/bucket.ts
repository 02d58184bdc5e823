// SPDX-License-Identifier: Apache-2.0
// The bucket of a synthesized stack with its bundle, served by moto. Once closed it lets in only whom AWS would: a request
// must be signed with the temporary credentials of a role, and the role's policy, the stack's own, must allow it.
import { inNamespace, must } from '../support/host';
import { type Moto, type MotoOptions, startMoto } from './moto';

/** What the stack says about its bundle. */
export interface StoredBundle {
  readonly region: string;
  readonly bucket: string;
  readonly key: string;
  readonly content: Buffer;
  /** The policy that lets a gateway read it. */
  readonly policy: string;
}

/** The page of the metadata service that holds a role's credentials. */
export type RoleCredentials = string;

const ROLE = 'mirror-gateway';
const TRUST = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
};

export class Bucket {
  private constructor(
    private readonly moto: Moto,
    private readonly options: MotoOptions,
    private readonly stored: StoredBundle,
  ) {}

  /** Starts the server and fills the bucket; everybody may still do everything. */
  static async start(stored: StoredBundle, options: MotoOptions = {}): Promise<Bucket> {
    const bucket = new Bucket(await startMoto(options), options, stored);
    const place = `<CreateBucketConfiguration><LocationConstraint>${stored.region}</LocationConstraint></CreateBucketConfiguration>`;
    await bucket.s3('PUT', '', place);
    await bucket.s3(
      'PUT',
      '?versioning=',
      '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>',
    );
    await bucket.put(stored.content);
    return bucket;
  }

  get port(): number {
    return this.moto.port;
  }

  /** Another version of the bundle. */
  async put(content: Buffer): Promise<void> {
    await this.s3('PUT', this.stored.key, content);
  }

  /** Leaves a delete marker. */
  async delete(): Promise<void> {
    await this.s3('DELETE', this.stored.key);
  }

  /** Lets a role in, and nobody else from now on. */
  async close(): Promise<RoleCredentials> {
    await this.query('iam', { Action: 'CreateRole', RoleName: ROLE, AssumeRolePolicyDocument: JSON.stringify(TRUST) });
    const policy = { RoleName: ROLE, PolicyName: 'read-bundle', PolicyDocument: this.stored.policy };
    await this.query('iam', { Action: 'PutRolePolicy', ...policy });
    const session = { RoleArn: `arn:aws:iam::123456789012:role/${ROLE}`, RoleSessionName: 'i-00000000000000001' };
    const answer = await this.query('sts', { Action: 'AssumeRole', ...session });
    const field = (name: string) => new RegExp(`<${name}>([^<]+)<`).exec(answer)?.[1];
    await this.curl('s3', ['--request', 'POST', '--header', 'content-type: text/plain'], 'moto-api/reset-auth', '0');
    const page = {
      Code: 'Success',
      LastUpdated: new Date().toISOString(),
      Type: 'AWS-HMAC',
      AccessKeyId: field('AccessKeyId'),
      SecretAccessKey: field('SecretAccessKey'),
      Token: field('SessionToken'),
      Expiration: field('Expiration'),
    };
    return JSON.stringify(page, null, 2);
  }

  stop(): Promise<void> {
    return this.moto.stop();
  }

  private s3(method: string, path: string, body: string | Buffer = ''): Promise<string> {
    const type = typeof body === 'string' ? 'application/xml' : 'application/octet-stream';
    return this.curl('s3', ['--request', method, '--header', `content-type: ${type}`], path, body);
  }

  private query(service: string, parameters: Record<string, string>): Promise<string> {
    const version = { iam: '2010-05-08', sts: '2011-06-15' }[service] ?? '';
    return this.curl(service, [], '', new URLSearchParams({ ...parameters, Version: version }).toString());
  }

  // moto tells services apart by what a request is signed for; by whom does not matter before it is closed.
  private curl(service: string, args: string[], path: string, body: string | Buffer): Promise<string> {
    const { namespace, address = '127.0.0.1', tls } = this.options;
    const { region, bucket } = this.stored;
    const host = service === 's3' ? `${bucket}.s3.${region}.amazonaws.com` : `${service}.amazonaws.com`;
    const flags = ['--silent', '--show-error', '--fail-with-body', '--insecure', '--max-time', '30', '--noproxy', '*'];
    const to = ['--connect-to', `::${address}:${this.port}`, `${tls ? 'https' : 'http'}://${host}/${path}`];
    const signed = ['--user', 'lab:lab', '--aws-sigv4', `aws:amz:${region}:${service}`];
    const command = [...flags, ...signed, ...args, '--data-binary', '@-', ...to];
    const [program, all] = namespace === undefined ? ['curl', command] : inNamespace(namespace, 'curl', ...command);
    return must(program, all, { input: body });
  }
}
