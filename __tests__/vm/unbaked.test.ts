// SPDX-License-Identifier: Apache-2.0
// The plain images of both releases: user data installs the packages from Debian's archive and builds with that release's
// compiler and libbpf, for that release's kernel.
import { bakedPackages } from '../../lab/vm/image';
import { itIsAGateway, useMachine } from './machine';

describe.each(['13', '12'] as const)('Debian %s, plain image, enable_xdp=true', (release) => {
  const machine = useMachine({ release, baked: false, emulated: true, engine: 'direct/generic', secondary: 'at boot' });

  it('user data runs without an error', () => {
    expect(machine.cloudInit.errors).toEqual([]);
  });

  it('user data installed the packages', async () => {
    const log = await machine.vm.exec('cat /var/log/cloud-init-output.log');
    expect(log).toContain('packages: installing');
    const query = `dpkg-query -W -f='\${db:Status-Status}\\n' ${bakedPackages().join(' ')} | sort -u`;
    expect(await machine.vm.exec(query)).toBe('installed\n');
  });

  itIsAGateway(machine);
});
