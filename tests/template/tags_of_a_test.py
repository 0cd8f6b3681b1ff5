"""Tags, filters and context processors of either colour, in a module that may be listed."""

import asyncio

from django.template import Library, Node

register = Library()


@register.simple_tag
def tag():
    return "tag"


@register.simple_tag
async def atag():
    await asyncio.sleep(0)
    return "tag"


@register.filter
def filter(value):
    return value


@register.filter
async def afilter(value):
    await asyncio.sleep(0)
    return value


class Own(Node):
    def __init__(self, nodelist):
        self.nodelist = nodelist

    def render(self, context):
        return self.nodelist.render(context)


@register.tag
def node(parser, token):
    nodelist = parser.parse(("endnode",))
    parser.delete_first_token()
    return Own(nodelist)


def processor(request):
    return {"processed": "yes"}


async def aprocessor(request):
    await asyncio.sleep(0)
    return {"aprocessed": "yes"}
