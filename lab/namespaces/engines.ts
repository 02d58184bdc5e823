// SPDX-License-Identifier: Apache-2.0
// What can carry a gateway's traffic, as make, a deployment's settings and the gateway's status put it: one list for the
// lab, the machines and the demo.

import { LARGEST_IN_DRIVER_MODE } from '../../constructs/config/limits';

export const ENGINES = ['bridge', 'standby', 'nfqueue', 'direct/driver', 'direct/generic'] as const;
/** The direct engine is two: what it does depends on where its program runs. */
export type Engine = (typeof ENGINES)[number];

/** What a stack runs whose settings say nothing about engines. */
export const DEFAULT_ENGINE = 'direct/generic';

/** MTU that AWS gives an ENI. */
export const ENI_MTU = 9001;

/** `egress_mtu` of a stack whose settings say nothing about it. */
export const DEFAULT_EGRESS_MTU = ENI_MTU;

/** MTU of an ENA interface that nobody configures: Ethernet's (alloc_etherdev_mq() in ena_netdev.c of Linux). */
export const UNCONFIGURED_MTU = 1500;

/**
 * The longest mirrored datagram that reaches the gateway, as IP total length. In driver mode virtio-net has 12 bytes less of a
 * page than ENA: its own header lies there, too.
 */
export function longestDatagram(engine: Engine): number {
  return engine === 'direct/driver' ? LARGEST_IN_DRIVER_MODE - 14 : 8900;
}

/** `max_packet_size` under which it runs: a gateway's default, or what fits. */
export function maxPacketSize(engine: Engine): number {
  return engine === 'direct/driver' ? LARGEST_IN_DRIVER_MODE : 9000;
}

/** The direct engine gives identifications below it, the kernel's path gives those from it on. */
const FIRST_ID_OF_KERNEL = 0x8000;

/** Whether a datagram's identification is one of those that the engine gives; the direct engine leaves some to the kernel. */
export function givesId(engine: Engine, id: number): boolean {
  return isDirect(engine) === id < FIRST_ID_OF_KERNEL;
}

/** One that it never gives: on a datagram that leaves with it, it stayed. */
export function foreignId(engine: Engine, number: number): number {
  return isDirect(engine) ? FIRST_ID_OF_KERNEL + number : number;
}

type Settings = Readonly<Record<string, string | number | boolean>>;

/** The context of a stack that is to run it. The fallback rule is what any gateway has before its engine is attached. */
export function settingsOf(engine: Engine): Settings {
  if (engine === 'nfqueue') return { enable_xdp: false };
  const [name, mode] = partsOf(engine === 'standby' ? 'bridge' : engine);
  return { enable_xdp: true, xdp_engine: name, xdp_mode: mode || 'auto', max_packet_size: maxPacketSize(engine) };
}

/** Name and, of the direct engine, mode. */
function partsOf(engine: Engine): [string, string] {
  const [name = '', mode = ''] = engine.split('/');
  return [name, mode];
}

export function isXdp(engine: Engine): boolean {
  return engine !== 'standby' && engine !== 'nfqueue';
}

export function isDirect(engine: Engine): boolean {
  return engine.startsWith('direct/');
}

/** What the gateway's status says while it carries the traffic. */
export function statusOf(engine: Engine): {
  readonly engine: string;
  readonly xdp_mode: string;
  readonly interface: string;
  readonly attached: boolean;
} {
  const [name, mode] = partsOf(engine);
  const xdpMode = mode || (engine === 'bridge' ? 'generic' : 'none');
  return { engine: name, xdp_mode: xdpMode, interface: isDirect(engine) ? 'ens5' : 'br0', attached: isXdp(engine) };
}

/**
 * The engine that ENGINE and MODE of make ask for, where an empty one is not given.
 *
 * @throws Error that names the variable, its value and what is allowed
 */
export function wantedEngine(who: string, wanted: string, mode: string, among: readonly Engine[] = ENGINES): Engine {
  const [defaultName, defaultMode] = partsOf(DEFAULT_ENGINE);
  const name = wanted || defaultName;
  const names = [...new Set(among.map((engine) => partsOf(engine)[0]))];
  if (!names.includes(name)) throw new Error(`${who}: ENGINE is '${name}', it must be one of ${names.join(', ')}`);
  const variants = among.filter((engine) => partsOf(engine)[0] === name);
  const [only] = variants;
  if (only && variants.length === 1) {
    if (mode) throw new Error(`${who}: MODE is '${mode}', but ENGINE=${name} has no modes; they are for ENGINE=direct`);
    return only;
  }
  const variant = variants.find((engine) => partsOf(engine)[1] === (mode || defaultMode));
  if (variant) return variant;
  const modes = variants.map((engine) => partsOf(engine)[1]);
  throw new Error(`${who}: MODE is '${mode}', it must be one of ${modes.join(', ')}`);
}
