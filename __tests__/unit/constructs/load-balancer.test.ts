// SPDX-License-Identifier: Apache-2.0
// The network load balancer: internal, UDP 4789, health by HTTP, and what an NLB can never gain later.
import { only, reference, synth } from './synthesized';

const xdp = synth();

describe('the load balancer', () => {
  test('is an internal NLB with a security group from the start, as it could never gain one', () => {
    expect(only(xdp, 'aws_lb')).toMatchObject({
      name: 'mirror-gateway-nlb',
      internal: true,
      load_balancer_type: 'network',
      enable_cross_zone_load_balancing: true,
    });
    expect(only(xdp, 'aws_lb').security_groups).toEqual([
      reference(xdp, 'aws_security_group', 'id', { name: 'mirror-gateway-load-balancer' }),
    ]);
  });

  test('is protected from deletion unless the configuration says otherwise', () => {
    expect(only(xdp, 'aws_lb').enable_deletion_protection).toBe(true);
    expect(only(synth({ deletion_protection: 'false' }), 'aws_lb').enable_deletion_protection).toBe(false);
  });

  test('keeps no access logs, which AWS writes for TLS listeners only', () => {
    expect(only(xdp, 'aws_lb').access_logs).toBeUndefined();
  });

  test('forwards UDP 4789 to instances', () => {
    const [targets] = Object.keys(xdp.resource.aws_lb_target_group ?? {});
    expect(only(xdp, 'aws_lb_listener')).toMatchObject({
      protocol: 'UDP',
      port: 4789,
      default_action: [{ type: 'forward', target_group_arn: `\${aws_lb_target_group.${targets}.arn}` }],
    });
    expect(only(xdp, 'aws_lb_target_group')).toMatchObject({ target_type: 'instance', protocol: 'UDP', port: 4789 });
  });

  test('asks /healthz by HTTP on the health port, since UDP cannot be checked', () => {
    const check = only(synth({ health_port: '9001' }), 'aws_lb_target_group').health_check;
    expect(check).toMatchObject({ protocol: 'HTTP', path: '/healthz', port: '9001', matcher: '200' });
  });

  test('moves flows off a gateway that leaves, since a flow that never pauses never ends', () => {
    expect(only(xdp, 'aws_lb_target_group')).toMatchObject({
      connection_termination: true,
      deregistration_delay: '120',
    });
  });
});
