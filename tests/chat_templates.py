"""Test vocabulary: chat templates in the forms of published ones."""

from __future__ import annotations

WITH_FUNCTIONS = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{- (tool | tojson) + '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|AUDIO|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""
"""The form of the templates of Qwen's models that were taught to call."""

WITH_FUNCTIONS_UNWRITTEN = """
{%- if tools %}
    {{- '<|start_of_role|>system<|end_of_role|>Call by <|tool_call|> and a list.' }}
    {{- '<|end_of_text|>\\n' }}
    {{- '<|start_of_role|>available_tools<|end_of_role|>' }}
    {{- (tools | tojson) + '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_of_role|>' + message.role + '<|end_of_role|>' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {{- '<|audio|>' if part.type == 'audio' else part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|end_of_text|>\\n' }}
{%- endfor %}
{{- '<|start_of_role|>assistant<|end_of_role|>' }}
"""
"""The form of Granite's, where the assistant's calls are content like any other."""
