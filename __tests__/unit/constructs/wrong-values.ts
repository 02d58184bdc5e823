// SPDX-License-Identifier: Apache-2.0
// What people get wrong, and the whole message each of them reads. Every row is the only mistake in an otherwise valid
// configuration.

/** Values a configuration needs to be valid. */
export const REQUIRED = {
  aws_ipsec_vm_ip: '192.0.2.95',
  aws_ipsec_vm_port: '8081',
  region: 'eu-central-1',
  vpc_id: 'vpc-0123456789abcdef0',
  private_subnet_ids: 'subnet-0123456789abcdef0',
};

const prefixes = (count: number) => Array.from({ length: count }, (_, index) => `10.${index}.0.0/16`);

export const WRONG: readonly (readonly [settings: Record<string, unknown>, message: string])[] = [
  [{ enable_xdp: 'yes' }, 'enable_xdp = "yes": must be true or false (write true)'],
  [{ enable_xdp: 'no' }, 'enable_xdp = "no": must be true or false (write false)'],
  [{ enable_xdp: '1' }, 'enable_xdp = "1": must be true or false (write true)'],
  [{ enable_xdp: 1 }, 'enable_xdp = 1: must be true or false (write true)'],
  [{ enable_xdp: 'TRUE' }, 'enable_xdp = "TRUE": must be true or false (write true)'],
  [{ enable_xdp: ' true' }, 'enable_xdp = " true": must be true or false (write true)'],
  [{ enable_xdp: '' }, 'enable_xdp = "": must be true or false'],
  [{ enable_xdp: null }, 'enable_xdp = null: must be true or false'],
  [{ enable_xdp: 'maybe' }, 'enable_xdp = "maybe": must be true or false'],
  [{ xdp_engine: 'native' }, 'xdp_engine = "native": must be one of auto, direct, bridge'],
  [{ xdp_engine: 'Bridge' }, 'xdp_engine = "Bridge": must be one of auto, direct, bridge (write bridge)'],
  [{ xdp_engine: '' }, 'xdp_engine = "": must be one of auto, direct, bridge'],
  [{ xdp_mode: 'skb' }, 'xdp_mode = "skb": must be one of auto, driver, generic'],
  [{ xdp_mode: 'DRIVER' }, 'xdp_mode = "DRIVER": must be one of auto, driver, generic (write driver)'],
  [{ xdp_mode: true }, 'xdp_mode = true: must be one of auto, driver, generic'],
  [{ xdp_traffic_percent: '101' }, 'xdp_traffic_percent = "101": must be a whole number from 0 to 100, in percent'],
  [{ xdp_traffic_percent: '-1' }, 'xdp_traffic_percent = "-1": must be a whole number from 0 to 100, in percent'],
  [{ xdp_traffic_percent: '50%' }, 'xdp_traffic_percent = "50%": must be a whole number from 0 to 100, in percent'],
  [
    { xdp_traffic_percent: '0.5' },
    'xdp_traffic_percent = "0.5": must be a whole number from 0 to 100, in percent (fractions are not accepted)',
  ],
  [
    { xdp_traffic_percent: 1.5 },
    'xdp_traffic_percent = 1.5: must be a whole number from 0 to 100, in percent (fractions are not accepted)',
  ],
  [{ xdp_traffic_percent: 'NaN' }, 'xdp_traffic_percent = "NaN": must be a whole number from 0 to 100, in percent'],
  [
    { aws_ipsec_vm_ip: '10.0.0.256' },
    'aws_ipsec_vm_ip = "10.0.0.256": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  ],
  [
    { aws_ipsec_vm_ip: '10.0.0' },
    'aws_ipsec_vm_ip = "10.0.0": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  ],
  [
    { aws_ipsec_vm_ip: '10.0.0.1:8081' },
    'aws_ipsec_vm_ip = "10.0.0.1:8081": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (the port goes into aws_ipsec_vm_port)',
  ],
  [
    { aws_ipsec_vm_ip: '10.0.0.1/32' },
    'aws_ipsec_vm_ip = "10.0.0.1/32": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (leave the prefix length out)',
  ],
  [
    { aws_ipsec_vm_ip: 'vm.example.com' },
    'aws_ipsec_vm_ip = "vm.example.com": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (names are not resolved)',
  ],
  [
    { aws_ipsec_vm_ip: 'fd00::1' },
    'aws_ipsec_vm_ip = "fd00::1": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (IPv6 is not supported)',
  ],
  [
    { aws_ipsec_vm_ip: '010.0.0.1' },
    'aws_ipsec_vm_ip = "010.0.0.1": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (leading zeros are ambiguous)',
  ],
  [
    { aws_ipsec_vm_ip: '224.0.0.1' },
    'aws_ipsec_vm_ip = "224.0.0.1": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (that address is multicast)',
  ],
  [
    { aws_ipsec_vm_ip: '127.0.0.1' },
    'aws_ipsec_vm_ip = "127.0.0.1": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (that address is loopback)',
  ],
  [
    { aws_ipsec_vm_ip: '0.0.0.0' },
    'aws_ipsec_vm_ip = "0.0.0.0": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (that address is "this network")',
  ],
  [
    { aws_ipsec_vm_ip: '255.255.255.255' },
    'aws_ipsec_vm_ip = "255.255.255.255": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (that address is reserved or broadcast)',
  ],
  [
    { aws_ipsec_vm_ip: '169.254.169.254' },
    'aws_ipsec_vm_ip = "169.254.169.254": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (that address is link-local)',
  ],
  [
    { aws_ipsec_vm_ip: ' 10.0.0.1' },
    'aws_ipsec_vm_ip = " 10.0.0.1": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (remove the blanks around it)',
  ],
  [
    { aws_ipsec_vm_ip: '' },
    'aws_ipsec_vm_ip = "": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  ],
  [
    { aws_ipsec_vm_ip: '10.0.0.1\nENABLE_XDP=false' },
    'aws_ipsec_vm_ip = "10.0.0.1\\nENABLE_XDP=false": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  ],
  [
    { aws_ipsec_vm_ip: 167772161 },
    'aws_ipsec_vm_ip = 167772161: must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95 (it is not a string)',
  ],
  [
    { aws_ipsec_vm_ip: '192.0.2.${count.index}' },
    'aws_ipsec_vm_ip = "192.0.2.${count.index}": must be the unicast IPv4 address of the IPsec VM, such as 10.0.1.95',
  ],
  [
    { aws_ipsec_vm_port: '0' },
    'aws_ipsec_vm_port = "0": must be a whole number from 1 to 65535 (a UDP port has 16 bits)',
  ],
  [
    { aws_ipsec_vm_port: '65536' },
    'aws_ipsec_vm_port = "65536": must be a whole number from 1 to 65535 (a UDP port has 16 bits)',
  ],
  [{ aws_ipsec_vm_port: 'http' }, 'aws_ipsec_vm_port = "http": must be a whole number from 1 to 65535'],
  [{ target_port: ' ' }, 'target_port = " ": must be a whole number from 1 to 65535 (it is empty)'],
  [{ target_port: '31765 ' }, 'target_port = "31765 ": must be a whole number from 1 to 65535 (write 31765)'],
  [{ target_port: '31,765' }, 'target_port = "31,765": must be a whole number from 1 to 65535 (write 31765)'],
  [{ target_port: '0x7c15' }, 'target_port = "0x7c15": must be a whole number from 1 to 65535'],
  [{ target_port: '1e3' }, 'target_port = "1e3": must be a whole number from 1 to 65535'],
  [{ target_port: '031765' }, 'target_port = "031765": must be a whole number from 1 to 65535 (write 31765)'],
  [{ target_port: [31765] }, 'target_port = [31765]: must be a whole number from 1 to 65535'],
  [
    { min_packet_size: '27' },
    'min_packet_size = "27": must be a whole number from 28 to 9001, in bytes of IP total length (28 are an IPv4 and a UDP header, 9001 is the largest MTU of EC2)',
  ],
  [
    { min_packet_size: '9000' },
    'min_packet_size = 9000, max_packet_size = 9000: min_packet_size must be less than max_packet_size, or no datagram is ever taken',
  ],
  [
    { max_packet_size: '9002' },
    'max_packet_size = "9002": must be a whole number from 28 to 9001, in bytes of IP total length (28 are an IPv4 and a UDP header, 9001 is the largest MTU of EC2)',
  ],
  [
    { max_packet_size: '1400' },
    'min_packet_size = 1400, max_packet_size = 1400: min_packet_size must be less than max_packet_size, or no datagram is ever taken',
  ],
  [{ vni: '0' }, 'vni = "0": must be a whole number from 1 to 16777215 (a VXLAN id has 24 bits (RFC 7348))'],
  [
    { vni: '16777216' },
    'vni = "16777216": must be a whole number from 1 to 16777215 (a VXLAN id has 24 bits (RFC 7348))',
  ],
  [
    { egress_mtu: '575' },
    'egress_mtu = "575": must be a whole number from 576 to 9001, in bytes (every IPv4 host takes 576 (RFC 791), 9001 is the largest MTU of EC2)',
  ],
  [
    { egress_mtu: '9002' },
    'egress_mtu = "9002": must be a whole number from 576 to 9001, in bytes (every IPv4 host takes 576 (RFC 791), 9001 is the largest MTU of EC2)',
  ],
  [{ egress_mtu: '1400 bytes' }, 'egress_mtu = "1400 bytes": must be a whole number from 576 to 9001, in bytes'],
  [
    { egress_cidrs: '10.0.0.5/8' },
    'egress_cidrs = "10.0.0.5/8": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "10.0.0.5/8": it has host bits set, write 10.0.0.0/8)',
  ],
  [
    { egress_cidrs: '10.0.0.1' },
    'egress_cidrs = "10.0.0.1": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "10.0.0.1": write 10.0.0.1/32 for one address)',
  ],
  [
    { egress_cidrs: '10.0.0.0/33' },
    'egress_cidrs = "10.0.0.0/33": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "10.0.0.0/33": the prefix length is a number from 0 to 32)',
  ],
  [
    { egress_cidrs: '0.0.0.0/0' },
    'egress_cidrs = "0.0.0.0/0": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "0.0.0.0/0": the default route stays on the primary interface)',
  ],
  [
    { egress_cidrs: '169.254.0.0/16' },
    'egress_cidrs = "169.254.0.0/16": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "169.254.0.0/16": it covers link-local addresses)',
  ],
  [
    { egress_cidrs: '10.0.0.0/8,10.0.0.0/8' },
    'egress_cidrs = "10.0.0.0/8,10.0.0.0/8": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 2 is "10.0.0.0/8": it occurs twice)',
  ],
  [
    { egress_cidrs: '10.0.0.0/8,' },
    'egress_cidrs = "10.0.0.0/8,": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 2 is "")',
  ],
  [
    { egress_cidrs: 'fd00::/8' },
    'egress_cidrs = "fd00::/8": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (entry 1 is "fd00::/8": IPv6 is not supported)',
  ],
  [
    { egress_cidrs: '["10.0.0.0/8"]' },
    'egress_cidrs = "[\\"10.0.0.0/8\\"]": must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (write one,two,three or a JSON array of strings)',
  ],
  [
    { egress_cidrs: 5 },
    'egress_cidrs = 5: must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (write one,two,three or a JSON array of strings)',
  ],
  [
    { egress_cidrs: prefixes(33) },
    'egress_cidrs = ["10.0.0.0/16","10.1.0.0/16","10.2.0.0/16","10.3.0.0/16","10.4.0.0/16","10.5.0.0/16","10.6.0.0/16","10.7.0.0/16","10.8.0...: must be up to 32 IPv4 prefixes such as 10.20.0.0/16, comma-separated (it has 33 entries)',
  ],
  [
    { health_port: '22' },
    'health_port = "22": must be a whole number from 1024 to 65535 (ports below 1024 belong to system services, such as 22 to sshd)',
  ],
  [
    { health_port: '70000' },
    'health_port = "70000": must be a whole number from 1024 to 65535 (ports below 1024 belong to system services, such as 22 to sshd)',
  ],
  [
    { region: 'us-east-1a' },
    'region = "us-east-1a": must be the code of an AWS region, such as eu-central-1 (that is an availability zone, write us-east-1)',
  ],
  [
    { region: 'US_EAST_1' },
    'region = "US_EAST_1": must be the code of an AWS region, such as eu-central-1 (write us-east-1)',
  ],
  [{ region: 'virginia' }, 'region = "virginia": must be the code of an AWS region, such as eu-central-1'],
  [{ region: '' }, 'region = "": must be the code of an AWS region, such as eu-central-1'],
  [
    { vpc_id: 'subnet-0123456789abcdef0' },
    'vpc_id = "subnet-0123456789abcdef0": must be a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f) (subnet- begins the id of another kind of resource)',
  ],
  [
    { vpc_id: 'vpc-0123' },
    'vpc_id = "vpc-0123": must be a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f) (it has 4 digits)',
  ],
  [
    { vpc_id: 'vpc-0123456789abcdefg' },
    'vpc_id = "vpc-0123456789abcdefg": must be a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f)',
  ],
  [{ vpc_id: 'my-vpc' }, 'vpc_id = "my-vpc": must be a VPC id: vpc- and 8 or 17 hexadecimal digits (0-9, a-f)'],
  [
    { private_subnet_ids: '' },
    'private_subnet_ids = "": must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (it is empty)',
  ],
  [
    { private_subnet_ids: [] },
    'private_subnet_ids = []: must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (it is empty)',
  ],
  [
    { private_subnet_ids: 'subnet-0123456789abcdef0 subnet-0123456789abcdef1' },
    'private_subnet_ids = "subnet-0123456789abcdef0 subnet-0123456789abcdef1": must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (entry 1 is "subnet-0123456789abcdef0 subnet-0123456789abcdef1")',
  ],
  [
    { private_subnet_ids: ['subnet-0123456789abcdef0', 'vpc-0123456789abcdef0'] },
    'private_subnet_ids = ["subnet-0123456789abcdef0","vpc-0123456789abcdef0"]: must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (entry 2 is "vpc-0123456789abcdef0": vpc- begins the id of another kind of resource)',
  ],
  [
    { private_subnet_ids: 'subnet-0123456789abcdef0,subnet-0123456789abcdef0' },
    'private_subnet_ids = "subnet-0123456789abcdef0,subnet-0123456789abcdef0": must be 1 to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (entry 2 is "subnet-0123456789abcdef0": it occurs twice)',
  ],
  [
    { base_ami: 'debian-13' },
    'base_ami = "debian-13": must be an AMI id: ami- and 8 or 17 hexadecimal digits (0-9, a-f), or empty',
  ],
  [
    { base_ami: 'ami-123' },
    'base_ami = "ami-123": must be an AMI id: ami- and 8 or 17 hexadecimal digits (0-9, a-f), or empty (it has 3 digits)',
  ],
  [
    { ec2_instance_type: 'c5n' },
    'ec2_instance_type = "c5n": must be an EC2 instance type with an ENA interface, such as c5n.large (it is not of the form family.size)',
  ],
  [
    { ec2_instance_type: 'C5N.large' },
    'ec2_instance_type = "C5N.large": must be an EC2 instance type with an ENA interface, such as c5n.large (write c5n.large)',
  ],
  [
    { ec2_instance_type: 'c5n-large' },
    'ec2_instance_type = "c5n-large": must be an EC2 instance type with an ENA interface, such as c5n.large (write c5n.large)',
  ],
  [
    { ec2_instance_type: 't2.micro' },
    'ec2_instance_type = "t2.micro": must be an EC2 instance type with an ENA interface, such as c5n.large (t2 has no ENA interface)',
  ],
  [
    { ec2_instance_type: 'm4.large' },
    'ec2_instance_type = "m4.large": must be an EC2 instance type with an ENA interface, such as c5n.large (m4 has no ENA interface)',
  ],
  [
    { ec2_instance_type: 'mac2.metal' },
    'ec2_instance_type = "mac2.metal": must be an EC2 instance type with an ENA interface, such as c5n.large (mac hosts run macOS only)',
  ],
  [
    { ec2_instance_type: 'c5n.huge' },
    'ec2_instance_type = "c5n.huge": must be an EC2 instance type with an ENA interface, such as c5n.large (it is not of the form family.size)',
  ],
  [{ min_instances: '0' }, 'min_instances = "0": must be a whole number from 1 to 500'],
  [
    { min_instances: '3' },
    'min_instances = 3, mirroring_instance_count = 2: min_instances must be at most 2, the larger of 2 and mirroring_instance_count',
  ],
  [{ min_instances: 'two' }, 'min_instances = "two": must be a whole number from 1 to 500'],
  [{ mirroring_instance_count: '-1' }, 'mirroring_instance_count = "-1": must be a whole number from 0 to 500'],
  [{ mirroring_instance_count: '501' }, 'mirroring_instance_count = "501": must be a whole number from 0 to 500'],
  [
    { mirror_source_eni_ids: 'i-0123456789abcdef0' },
    'mirror_source_eni_ids = "i-0123456789abcdef0": must be comma-separated network interface ids: eni- and 8 or 17 hexadecimal digits (0-9, a-f) (entry 1 is "i-0123456789abcdef0": i- begins the id of another kind of resource)',
  ],
  [
    { mirror_filter_cidrs: '10.0.0.0/8, 10.1.2.3/16' },
    'mirror_filter_cidrs = "10.0.0.0/8, 10.1.2.3/16": must be up to 5 IPv4 prefixes such as 10.0.0.0/8, comma-separated (entry 2 is "10.1.2.3/16": it has host bits set, write 10.1.0.0/16)',
  ],
  [
    { mirror_filter_cidrs: prefixes(6) },
    'mirror_filter_cidrs = ["10.0.0.0/16","10.1.0.0/16","10.2.0.0/16","10.3.0.0/16","10.4.0.0/16","10.5.0.0/16"]: must be up to 5 IPv4 prefixes such as 10.0.0.0/8, comma-separated (it has 6 entries)',
  ],
  [
    { mirror_source_cidrs: '0.0.0.0/0' },
    'mirror_source_cidrs = "0.0.0.0/0": must be up to 50 IPv4 prefixes such as 10.0.0.0/16, comma-separated (entry 1 is "0.0.0.0/0": it would open port 4789 to everybody)',
  ],
  [{ pps_alarm_threshold: '0' }, 'pps_alarm_threshold = "0": must be a whole number from 1 to 100000000, in packets/s'],
  [
    { pps_alarm_threshold: '1_000_000' },
    'pps_alarm_threshold = "1_000_000": must be a whole number from 1 to 100000000, in packets/s (write 1000000)',
  ],
  [
    { pps_alarm_threshold: '1M' },
    'pps_alarm_threshold = "1M": must be a whole number from 1 to 100000000, in packets/s',
  ],
  [
    { alarm_topic_arn: 'oncall' },
    'alarm_topic_arn = "oncall": must be the ARN of an SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME, or empty',
  ],
  [
    { alarm_topic_arn: 'arn:aws:sqs:eu-central-1:123456789012:oncall' },
    'alarm_topic_arn = "arn:aws:sqs:eu-central-1:123456789012:oncall": must be the ARN of an SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME, or empty (that ARN belongs to sqs)',
  ],
  [
    { alarm_topic_arn: 'arn:aws:sns:us-east-1:123456789012:oncall' },
    'alarm_topic_arn = "arn:aws:sns:us-east-1:123456789012:oncall", region = "eu-central-1": an alarm can only notify a topic of its own region',
  ],
  [
    { alarm_topic_arn: 'arn:aws:sns:eu-central-1:123456789012:oncall:0b6f9f4e' },
    'alarm_topic_arn = "arn:aws:sns:eu-central-1:123456789012:oncall:0b6f9f4e": must be the ARN of an SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME, or empty (that is a subscription, write the ARN of its topic)',
  ],
  [{ alarm_email: 'oncall' }, 'alarm_email = "oncall": must be an e-mail address such as oncall@example.com, or empty'],
  [
    { alarm_email: 'a@example.com,b@example.com' },
    'alarm_email = "a@example.com,b@example.com": must be an e-mail address such as oncall@example.com, or empty (one address only; subscribe further ones to alarm_topic_arn)',
  ],
  [
    { alarm_email: 'On Call <oncall@example.com>' },
    'alarm_email = "On Call <oncall@example.com>": must be an e-mail address such as oncall@example.com, or empty (write the bare address, without a name)',
  ],
  [
    { state_bucket: 's3://states/key' },
    'state_bucket = "s3://states/key": must be the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty (leave s3:// and the key out; the key goes into state_key)',
  ],
  [
    { state_bucket: 'My_Bucket' },
    'state_bucket = "My_Bucket": must be the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty',
  ],
  [
    { state_bucket: 'ab' },
    'state_bucket = "ab": must be the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty (it has 2 characters)',
  ],
  [
    { state_bucket: '192.0.2.1' },
    'state_bucket = "192.0.2.1": must be the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty (a bucket name cannot look like an IP address)',
  ],
  [
    { state_bucket: 'arn:aws:s3:::states' },
    'state_bucket = "arn:aws:s3:::states": must be the name of an S3 bucket: 3 to 63 of a-z, 0-9, "-" and ".", or empty (write the bucket name, not its ARN)',
  ],
  [
    { state_key: 'a/terraform.tfstate' },
    'state_key = "a/terraform.tfstate", state_bucket = "": state_key has no effect without state_bucket; set both or neither',
  ],
  [
    { state_bucket: 'states', state_key: '/a' },
    'state_key = "/a": must be an S3 object key of letters, digits and !_.*\'()/- such as mirror-gateway/terraform.tfstate, or empty (leave the leading / out)',
  ],
  [
    { state_bucket: 'states', state_key: 'a/' },
    'state_key = "a/": must be an S3 object key of letters, digits and !_.*\'()/- such as mirror-gateway/terraform.tfstate, or empty (it names a folder, not an object)',
  ],
  [
    { state_region: 'eu-west-1' },
    'state_region = "eu-west-1", state_bucket = "": state_region has no effect without state_bucket; set both or neither',
  ],
  [
    { state_bucket: 'states', state_region: 'ireland' },
    'state_region = "ireland": must be the code of an AWS region, such as eu-central-1, or empty',
  ],
  [
    { name_prefix: 'Mirror_Gateway' },
    'name_prefix = "Mirror_Gateway": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (write mirror-gateway)',
  ],
  [
    { name_prefix: 'aws-mirror' },
    'name_prefix = "aws-mirror": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (AWS reserves names that begin with "aws")',
  ],
  [
    { name_prefix: 'amazon-gateway' },
    'name_prefix = "amazon-gateway": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (AWS reserves names that begin with "amazon")',
  ],
  [
    { name_prefix: 'amzn' },
    'name_prefix = "amzn": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (AWS reserves names that begin with "amzn")',
  ],
  [
    { name_prefix: 'sthree-gateway' },
    'name_prefix = "sthree-gateway": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (AWS reserves names that begin with "sthree-")',
  ],
  [
    { name_prefix: 'internal-gateway' },
    'name_prefix = "internal-gateway": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (AWS reserves names that begin with "internal-")',
  ],
  [
    { name_prefix: '9lives' },
    'name_prefix = "9lives": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (write lives)',
  ],
  [
    { name_prefix: 'a-very-long-name-for-one-gateway' },
    'name_prefix = "a-very-long-name-for-one-gateway": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter (it has 32 characters)',
  ],
  [{ name_prefix: '' }, 'name_prefix = "": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter'],
  [
    { environment: 'prod!' },
    'environment = "prod!": must be 1 to 28 of a-z, 0-9 and single hyphens, beginning with a letter, or empty (write prod)',
  ],
  [
    { name_prefix: 'mirror-gateway', environment: 'quality-assurance' },
    'name_prefix = "mirror-gateway", environment = "quality-assurance": "mirror-gateway-quality-assurance" has 32 characters, and a load balancer\'s name leaves room for 28',
  ],
  [{ product: '' }, 'product = "": must be 1 to 256 letters, digits, blanks and _.:/=+@-'],
  [{ product: 'a"b' }, 'product = "a\\"b": must be 1 to 256 letters, digits, blanks and _.:/=+@-'],
  [
    { component: 'x'.repeat(257) },
    `component = "${'x'.repeat(119)}...: must be 1 to 256 letters, digits, blanks and _.:/=+@- (it has 257 characters)`,
  ],
  [
    { xdp_engine: 'bridge', xdp_mode: 'driver' },
    'xdp_engine = "bridge", xdp_mode = "driver": a bridge refuses driver mode; take xdp_engine auto or direct, or xdp_mode auto or generic',
  ],
  [{ enableXdp: 'true' }, 'enableXdp = "true": no such key; the nearest one is enable_xdp'],
  [{ 'enable-xdp': 'true' }, 'enable-xdp = "true": no such key; the nearest one is enable_xdp'],
  [{ enable_xpd: 'false' }, 'enable_xpd = "false": no such key; the nearest one is enable_xdp'],
  [
    { MIRROR_GATEWAY_ENABLE_XDP: 'false' },
    'MIRROR_GATEWAY_ENABLE_XDP = "false": no such key; the nearest one is enable_xdp',
  ],
  [{ target_prot: '31765' }, 'target_prot = "31765": no such key; the nearest one is target_port'],
  [{ instance_type: 'c5n.large' }, 'instance_type = "c5n.large": no such key; the nearest one is ec2_instance_type'],
  [{ subnets: 'x' }, 'subnets = "x": no such key; the nearest one is private_subnet_ids'],
];

/** Settings that are each right by themselves and wrong together, and slips in the keys that came with the whole stack. */
export const WRONG_TOGETHER: typeof WRONG = [
  [
    { min_packet_size: '8486' },
    'min_packet_size = 8486, max_packet_size = 9000: a mirror session to a load balancer copies 8500 bytes of a packet, which is a datagram of 8486: longer ones arrive cut and none is ever taken; set it below 8486',
  ],
  [
    { min_packet_size: '8999' },
    'min_packet_size = 8999, max_packet_size = 9000: a mirror session to a load balancer copies 8500 bytes of a packet, which is a datagram of 8486: longer ones arrive cut and none is ever taken; set it below 8486',
  ],
  [
    { xdp_mode: 'driver' },
    'xdp_mode = "driver", max_packet_size = 9000: driver mode on ENA takes an MTU of at most 3498, in which a mirrored datagram of 3448 bytes fits; set max_packet_size to at most that, or xdp_mode to auto or generic',
  ],
  [
    { xdp_mode: 'driver', xdp_engine: 'direct' },
    'xdp_mode = "driver", max_packet_size = 9000: driver mode on ENA takes an MTU of at most 3498, in which a mirrored datagram of 3448 bytes fits; set max_packet_size to at most that, or xdp_mode to auto or generic',
  ],
  [
    { xdp_mode: 'driver', max_packet_size: '3449' },
    'xdp_mode = "driver", max_packet_size = 3449: driver mode on ENA takes an MTU of at most 3498, in which a mirrored datagram of 3448 bytes fits; set max_packet_size to at most that, or xdp_mode to auto or generic',
  ],
  [
    { pps_alarm_threshold: '100000000' },
    'pps_alarm_threshold = 100000000, ec2_instance_type = "c5n.large": 25 Gbit/s, all that c5n.large ever has, carry at most 33967391 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that threshold is out of reach; take a lower one or a larger type',
  ],
  [
    { pps_alarm_threshold: '33967392' },
    'pps_alarm_threshold = 33967392, ec2_instance_type = "c5n.large": 25 Gbit/s, all that c5n.large ever has, carry at most 33967391 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that threshold is out of reach; take a lower one or a larger type',
  ],
  [
    { pps_alarm_threshold: '80000000', ec2_instance_type: 'm5n.12xlarge' },
    'pps_alarm_threshold = 80000000, ec2_instance_type = "m5n.12xlarge": 50 Gbit/s, all that m5n.12xlarge ever has, carry at most 67934782 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that threshold is out of reach; take a lower one or a larger type',
  ],
  [
    { pps_scaling_target: '50000000' },
    'pps_scaling_target = 50000000, ec2_instance_type = "c5n.large": 25 Gbit/s, all that c5n.large ever has, carry at most 33967391 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that target is out of reach; take a lower one or a larger type',
  ],
  [
    { pps_scaling_target: '33967392', ec2_instance_type: 'm5n.large' },
    'pps_scaling_target = 33967392, ec2_instance_type = "m5n.large": 25 Gbit/s, all that m5n.large ever has, carry at most 33967391 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that target is out of reach; take a lower one or a larger type',
  ],
  [
    { enable_xdp: 'false', pps_scaling_target: '90000000', ec2_instance_type: 'c5n.9xlarge' },
    'pps_scaling_target = 90000000, ec2_instance_type = "c5n.9xlarge": 50 Gbit/s, all that c5n.9xlarge ever has, carry at most 67934782 packets/s of 92 bytes, the smallest frame of a mirrored datagram, so that target is out of reach; take a lower one or a larger type',
  ],
  [
    { secondary_subnet_ids: 'subnet-0123456789abcdef1,subnet-0123456789abcdef2' },
    'secondary_subnet_ids = ["subnet-0123456789abcdef1","subnet-0123456789abcdef2"], private_subnet_ids = ["subnet-0123456789abcdef0"]: each zone with gateways needs one subnet for second interfaces: give 1, or none for the gateways\' own',
  ],
  [
    {
      private_subnet_ids: 'subnet-0123456789abcdef1,subnet-0123456789abcdef2',
      secondary_subnet_ids: 'subnet-0123456789abcdef3',
    },
    'secondary_subnet_ids = ["subnet-0123456789abcdef3"], private_subnet_ids = ["subnet-0123456789abcdef1","subnet-0123456789abcdef2"]: each zone with gateways needs one subnet for second interfaces: give 2, or none for the gateways\' own',
  ],
  [
    { egress_cidrs: '10.0.0.0/8', management_cidrs: '10.200.0.0/16' },
    'egress_cidrs = ["10.0.0.0/8"], management_cidrs = ["10.200.0.0/16"]: what gateways send to 10.200.0.0/16 would leave by the second interface, which lets out datagrams to the IPsec VM only; take it out of one of them',
  ],
  [
    { egress_cidrs: '10.200.0.0/16', management_cidrs: '10.200.0.0/16' },
    'egress_cidrs = ["10.200.0.0/16"], management_cidrs = ["10.200.0.0/16"]: what gateways send to 10.200.0.0/16 would leave by the second interface, which lets out datagrams to the IPsec VM only; take it out of one of them',
  ],
  [
    { min_instances: '3' },
    'min_instances = 3, mirroring_instance_count = 2: min_instances must be at most 2, the larger of 2 and mirroring_instance_count',
  ],
  [
    { min_instances: '20', mirroring_instance_count: '10' },
    'min_instances = 20, mirroring_instance_count = 10: min_instances must be at most 10, the larger of 2 and mirroring_instance_count',
  ],
  [
    { state_bucket: 'states', state_region: 'cn-north-1' },
    'state_region = "cn-north-1", region = "eu-central-1": they belong to different partitions, aws-cn and aws, and no credentials are good for both; keep the state in the partition of region',
  ],
  [
    { state_bucket: 'states', region: 'us-gov-west-1', state_region: 'eu-central-1' },
    'state_region = "eu-central-1", region = "us-gov-west-1": they belong to different partitions, aws and aws-us-gov, and no credentials are good for both; keep the state in the partition of region',
  ],
  [
    { alarm_topic_arn: 'arn:aws:sns:eu-west-1:123456789012:a' },
    'alarm_topic_arn = "arn:aws:sns:eu-west-1:123456789012:a", region = "eu-central-1": an alarm can only notify a topic of its own region',
  ],
  [
    { alarm_topic_arn: 'arn:aws-cn:sns:eu-central-1:123456789012:a' },
    'alarm_topic_arn = "arn:aws-cn:sns:eu-central-1:123456789012:a", region = "eu-central-1": a topic of that region is in the partition aws; begin with arn:aws:',
  ],
  [
    { region: 'cn-north-1', alarm_topic_arn: 'arn:aws:sns:cn-north-1:123456789012:a' },
    'alarm_topic_arn = "arn:aws:sns:cn-north-1:123456789012:a", region = "cn-north-1": a topic of that region is in the partition aws-cn; begin with arn:aws-cn:',
  ],
  [
    { name_prefix: 'mirror-gateway-for-the-edge', environment: 'prod' },
    'name_prefix = "mirror-gateway-for-the-edge", environment = "prod": "mirror-gateway-for-the-edge-prod" has 32 characters, and a load balancer\'s name leaves room for 28',
  ],
  [
    { log_retention_days: '8' },
    'log_retention_days = "8": must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, in days (the next one is 14)',
  ],
  [
    { log_retention_days: '0' },
    'log_retention_days = "0": must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, in days (the next one is 1)',
  ],
  [
    { log_retention_days: 'a week' },
    'log_retention_days = "a week": must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, in days',
  ],
  [
    { log_retention_days: '4000' },
    'log_retention_days = "4000": must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653, in days (the largest is 3653)',
  ],
  [{ deletion_protection: 'off' }, 'deletion_protection = "off": must be true or false (write false)'],
  [
    { mirror_session_number: '0' },
    'mirror_session_number = "0": must be a whole number from 1 to 32766 (CreateTrafficMirrorSession)',
  ],
  [
    { mirror_session_number: '32767' },
    'mirror_session_number = "32767": must be a whole number from 1 to 32766 (CreateTrafficMirrorSession)',
  ],
  [
    { management_cidrs: '10.0.0.1' },
    'management_cidrs = "10.0.0.1": must be up to 20 IPv4 prefixes such as 10.0.0.0/8, comma-separated (entry 1 is "10.0.0.1": write 10.0.0.1/32 for one address)',
  ],
  [
    { secondary_subnet_ids: 'vpc-0123456789abcdef0' },
    'secondary_subnet_ids = "vpc-0123456789abcdef0": must be up to 16 comma-separated subnet ids: subnet- and 8 or 17 hexadecimal digits (0-9, a-f) (entry 1 is "vpc-0123456789abcdef0": vpc- begins the id of another kind of resource)',
  ],
  [
    { pps_scaling_target: '1.5M' },
    'pps_scaling_target = "1.5M": must be a whole number from 1 to 100000000, in packets/s, or empty',
  ],
];
